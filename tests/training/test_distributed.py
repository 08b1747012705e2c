"""Several processes: the same numbers as one, and one line when something is wrong."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import Ended, fvar_on_nodes, fvar_processes
from training_samples import ROWS, sample_pictures, sample_video, sample_videos, tiny_config
from training_samples import write_frames as write

from fvar.config import EvalConfig
from fvar.errors import ManifestError, StoppedError
from fvar.reporting import SilentReporter
from fvar.stages.evaluate import evaluate
from fvar.stages.train import train
from fvar.training import distributed
from fvar.training.checkpoint import Checkpoint, load_checkpoint
from fvar.training.distributed import World, autocast_dtype, join_world

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)

# Without dropout and with frozen norms nothing is drawn or measured per process. Batches of 5 of the 6
# videos, 1 to 12 frames long: the last batch holds one video, so that one process has nothing to do.
CONFIG = tiny_config(dropout=0.0, norm="frozen", batch_size=5, keep_mb=1)
TOML = "\n".join(
    f"{name} = {json.dumps(value)}" for name, value in CONFIG.model_dump(exclude_unset=True).items()
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an extraction and settings; a test adds folders of its own."""
    folder = tmp_path_factory.mktemp("run")
    write(folder / "frames")
    (folder / "settings.toml").write_text(TOML)
    return folder


@pytest.fixture(scope="module")
def two(run: Path) -> list[Ended]:
    """Train with 2 processes into the folder `two`; return how they ended."""
    return fvar_processes(2, _arguments(run, "two"))


def _last(folder: Path) -> Checkpoint:
    return load_checkpoint(folder / "checkpoints" / "last.pt")


def _arguments(run: Path, out: str, *more: str) -> list[object]:
    return ["train", run / "frames", "--config", run / "settings.toml", "--out", run / out, *more]


def test_alone_everything_is_ones_own() -> None:
    """One process is the main one, and gathers and sums its own values."""
    assert ALONE.is_main
    assert ALONE.on_main(lambda: 3) == 3
    assert ALONE.gather("x") == ["x"]
    assert ALONE.sum(torch.ones(2)).tolist() == [1, 1]
    module = torch.nn.Linear(1, 1)
    assert ALONE.wrap(module) is module


def test_main_processs_error_is_raised() -> None:
    """An error of the main process is raised there, to be printed."""

    def fail() -> None:
        raise ManifestError("file", "is wrong", fix="correct it")

    with pytest.raises(ManifestError, match="file: is wrong; correct it") as error:
        ALONE.on_main(fail)
    assert not error.value.is_duplicate


def test_other_processes_echo_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the others the same error arrives, marked, so that it is printed once."""

    def receive(outcome: list[Any], *, src: int) -> None:
        assert src == 0
        outcome[1] = ManifestError("file", "is wrong", fix="correct it")

    monkeypatch.setattr(distributed.dist, "broadcast_object_list", receive)
    with pytest.raises(ManifestError, match="file: is wrong; correct it") as error:
        World(1, 2, CPU).on_main(lambda: pytest.fail("runs in the main process alone"))
    assert error.value.is_duplicate


def test_precision() -> None:
    """``auto`` is float32 without a GPU; what is asked for is taken."""
    assert autocast_dtype("auto", CPU) is None
    assert autocast_dtype("fp32", CPU) is None
    assert autocast_dtype("bf16", CPU) == torch.bfloat16
    assert autocast_dtype("fp16", CPU) == torch.float16


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_precision_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, dtype: torch.dtype
) -> None:
    """``auto`` takes bf16 where the GPU has it, else fp16."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    assert autocast_dtype("auto", torch.device("cuda")) == dtype


def test_device_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` takes the GPU of this process's local rank, and the host where there is none."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with join_world("auto") as world:
        assert world.device == torch.device("cuda", 3)
    with join_world("cpu") as world:
        assert world.device == CPU
    assert chosen == [3]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with join_world("auto") as world:
        assert world.device == CPU


@pytest.mark.parametrize(("gpu", "backend"), [(False, "gloo"), (True, "nccl")])
def test_processes_meet_and_part(monkeypatch: pytest.MonkeyPatch, gpu: bool, backend: str) -> None:
    """They meet by the backend of their device, and part also when something goes wrong."""
    calls: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(distributed.dist, "init_process_group", calls.append)
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: bool(calls))
    monkeypatch.setattr(distributed.dist, "destroy_process_group", lambda: calls.append("parted"))
    with pytest.raises(ManifestError), join_world("auto") as world:  # noqa: PT012  # the block fails
        assert (world.rank, world.world_size, world.is_main) == (1, 2, False)
        raise ManifestError("file", "is wrong", fix="correct it")
    assert calls == [backend, "parted"]


@pytest.mark.slow
def test_two_processes_equal_one(run: Path, two: list[Ended]) -> None:
    """Loss, accuracy and weights of 2 processes are those of 1, up to the order of float32 sums."""
    assert [code for code, _, _ in two] == [0, 0], two
    assert "2 process(es)" in two[0][1]
    assert two[1][1] == ""  # the main process alone prints
    train(run / "frames", run / "one", CONFIG, SilentReporter())
    one, other = _last(run / "one"), _last(run / "two")
    assert one.model.keys() == other.model.keys()
    for name, value in one.model.items():
        torch.testing.assert_close(other.model[name], value, rtol=1e-4, atol=1e-5, msg=name)
    for a, b in zip(one.history, other.history, strict=True):
        same = a.keys() - {"seconds", "frames_per_second"}
        assert {name: b[name] for name in same} == pytest.approx({name: a[name] for name in same})


@pytest.mark.slow
@pytest.mark.usefixtures("two")
def test_two_processes_evaluate_as_one(run: Path) -> None:
    """The tables of an evaluation by 2 processes are those of 1, to the byte."""
    evaluate(run / "two", run / "eval1", EvalConfig(device="cpu", workers=0), SilentReporter())
    arguments = ["eval", run / "two", "--device", "cpu", "--workers", 0, "--out", run / "eval2"]
    assert [code for code, _, _ in fvar_processes(2, arguments)] == [0, 0]
    for name in ("predictions.csv", "per_class.csv", "confusion.csv"):
        assert (run / "eval1" / name).read_bytes() == (run / "eval2" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("two")
def test_two_nodes_equal_one(run: Path) -> None:
    """Where every process is the first of its machine, one alone writes, and the weights are the same."""
    ended = fvar_processes(2, _arguments(run, "nodes"), nodes=2)
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert ended[1][1:] == ("", "")
    before, after = _last(run / "two"), _last(run / "nodes")
    for name, value in before.model.items():
        assert torch.equal(after.model[name], value), name
    assert len(list((run / "nodes" / "tensorboard").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutate", "problem"),
    [
        (shutil.rmtree, "is not there"),
        (
            lambda frames: shutil.rmtree(frames / "shards"),
            "lists shards/shard-00000.h5, which is missing or another",
        ),
        (lambda frames: _lengthen(frames / "manifest.json"), "is another file"),
    ],
)
def test_frames_that_one_node_does_not_see(
    run: Path, tmp_path: Path, mutate: Callable[[Path], object], problem: str
) -> None:
    """Nothing is trained on other frames: one line names file and machine, all end with exit code 2."""
    shutil.copytree(run / "frames", tmp_path / "frames")
    mutate(tmp_path / "frames")
    arguments = ["train", "frames", "--config", run / "settings.toml", "--out", tmp_path / "out"]
    ended = fvar_on_nodes(arguments, [run, tmp_path])
    assert [code for code, _, _ in ended] == [2, 2], ended
    assert ended[1][2] == ""
    assert (
        f"fvar: frames/manifest.json: {problem} on {socket.gethostname()} (process 1 of 2)"
        in ended[0][2]
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("two")
def test_a_checkpoint_that_one_node_does_not_see(run: Path, tmp_path: Path) -> None:
    """Nothing is evaluated with other weights, nor on other frames."""
    for name in ("two", "frames"):
        shutil.copytree(run / name, tmp_path / name)
    arguments = ["eval", "two", "--frames", "frames", "--device", "cpu", "--checkpoint", "last"]
    (tmp_path / "frames" / "manifest.json").unlink()
    ended = fvar_on_nodes(arguments, [run, tmp_path])
    assert [code for code, _, _ in ended] == [2, 2], ended
    assert ended[0][2].startswith("fvar: frames/manifest.json: is not there on ")
    _lengthen(tmp_path / "two" / "checkpoints" / "last.pt")
    ended = fvar_on_nodes(arguments, [run, tmp_path])
    assert [code for code, _, _ in ended] == [2, 2], ended
    assert ended[0][2].startswith("fvar: two/checkpoints/last.pt: is another file on ")


def _lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


@pytest.mark.slow
@pytest.mark.usefixtures("two")
def test_error_of_the_main_process_ends_all(run: Path) -> None:
    """A folder that is complete is refused by all processes with exit code 2 and one line in all."""
    ended = fvar_processes(2, _arguments(run, "two"))
    assert [code for code, _, _ in ended] == [2, 2]
    assert ended[0][2].startswith(f"fvar: {run / 'two'}: holds a complete run")
    assert [len(err.splitlines()) for _, _, err in ended] == [1, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("video", "num_frames"), [("e", 12), ("b", 9)])
def test_error_of_any_process_ends_all(
    run: Path, tmp_path: Path, video: str, num_frames: int
) -> None:
    """A video that one process cannot decode ends the others too; its name is printed."""
    broken = sample_pictures(video, num_frames)
    broken[-1] = b"not a picture"
    write(tmp_path / "broken", videos=sample_videos(ROWS) | {video: sample_video(broken)})
    _, _, *options = _arguments(run, str(tmp_path / "out"))
    ended = fvar_processes(2, ["train", tmp_path / "broken", *options])
    (mine,) = [err for code, _, err in ended if code == 2]
    assert mine.startswith(
        f"fvar: video '{video}': frames 8 to {num_frames - 1}: cannot be decoded ("
    )
    (others,) = [err for code, _, err in ended if code == 3]
    assert "lost another process (RuntimeError: " in others
    assert [len(err.splitlines()) for _, _, err in ended] == [1, 1]
    assert not (tmp_path / "out").exists()  # no epoch was finished


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB.\nGPU 0 has"),
            "memory of cpu: does not suffice (OutOfMemoryError: CUDA out of memory. Tried 2 GiB.); ",
        ),
        (
            RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:5250"),
            "process 0 of 1: lost another process (RuntimeError: [pair.cc:561] Connection closed by peer",
        ),
    ],
)
def test_what_is_no_bug_of_ours_stops(error: RuntimeError, line: str) -> None:
    """Too little memory and a lost process end a run with one line, not with a traceback."""
    with pytest.raises(StoppedError) as stopped, join_world("cpu"):
        raise error
    assert str(stopped.value).startswith(line)


def test_other_errors_stay_what_they_are() -> None:
    """A bug is not taken for anything else."""
    with pytest.raises(RuntimeError, match="shape mismatch"), join_world("cpu"):
        raise RuntimeError("shape mismatch")
