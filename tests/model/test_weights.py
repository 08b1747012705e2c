"""Weights: every key finds its place or is named, and nothing in a file is executed."""

import copy
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tensor_clips import settled_backbone
from torch import Tensor, nn
from torchvision import models

from fvar.errors import WeightsError
from fvar.model.networks import cut_backbone
from fvar.model.weights import imagenet_state, load_strictly, read_state

State = dict[str, Tensor]


def _network(*, seed: int = 0) -> nn.Module:
    return settled_backbone("tiny", dtype=torch.float32, seed=seed).network


def _saved(content: object, folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(content, path)
    return path


def _under(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


def _as_tsm(state: State) -> dict[str, object]:
    """Name keys as TSM's checkpoints do: DataParallel, base model, `.net` inside shifted convolutions."""
    renamed = {
        f"module.base_model.{name.replace('.0.conv1.', '.0.conv1.net.')}": value
        for name, value in state.items()
    }
    classifier = {
        "module.new_fc.weight": torch.zeros(3, 128),
        "module.new_fc.bias": torch.zeros(3),
    }
    return {"epoch": 12, "arch": "tiny", "state_dict": renamed | classifier, "best_prec1": 0.5}


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state},
    "model": lambda state: {"model": state, "epoch": 3},
    "nested": lambda state: {"state_dict": {"model": state}},
    "model_state_dict": lambda state: {"epoch": 1, "model_state_dict": state, "optimizer": {}},
    "model_state": lambda state: {"model_state": state},
    "net": lambda state: {"net": state, "acc": 0.5},
    "ema": lambda state: {"ema": {"module": state}, "updates": 3},
    "data parallel": _under("module."),
    "lightning": _under("model.backbone."),
    "ours": _under("backbone.network."),
    "tsm": _as_tsm,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_known_layouts_load(layout: str, tmp_path: Path) -> None:
    """A state dict loads from every known wrapping, each tensor where it belongs."""
    source, target = _network(seed=1), _network(seed=2)
    path = _saved(LAYOUTS[layout](source.state_dict()), tmp_path)
    left_out = load_strictly(target, read_state(path), source=path)
    assert left_out == (["new_fc.weight", "new_fc.bias"] if layout == "tsm" else [])
    wanted = source.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in target.state_dict().items())


@pytest.mark.parametrize("classifier", ["fc", "classifier", "new_fc", "head"])
def test_a_classifier_is_left_out_by_name(classifier: str) -> None:
    """Keys of any known classifier are left out and returned."""
    network = _network()
    state = network.state_dict() | {f"{classifier}.weight": torch.zeros(2, 2)}
    assert load_strictly(network, state, source="file") == [f"{classifier}.weight"]


def test_counters_of_batch_norms_may_be_missing() -> None:
    """`num_batches_tracked`, which old files lack, keeps its value; every other key is wanted."""
    network = _network(seed=1)
    state = {n: v for n, v in network.state_dict().items() if "num_batches" not in n}
    other = _network(seed=2)
    other.bn1.num_batches_tracked.fill_(7)
    load_strictly(other, state, source="file")
    assert torch.equal(other.conv1.weight, network.conv1.weight)
    assert other.bn1.num_batches_tracked == 7


def _lacking(state: State) -> State:
    return {name: value for name, value in state.items() if name != "conv1.weight"}


def _of_another_shape(state: State) -> State:
    return state | {"bn1.bias": torch.zeros(5), "bn1.weight": torch.zeros(5)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_lacking, "lacks conv1.weight"),
        (lambda state: state | {"conv9.weight": torch.zeros(1)}, "has unknown conv9.weight"),
        (_of_another_shape, "has other shapes for bn1.bias, bn1.weight"),
        (
            lambda state: _lacking(state) | {f"extra.{n}": torch.zeros(1) for n in "abcdef"},
            "lacks conv1.weight; has unknown extra.a, extra.b, extra.c, extra.d and 2 more",
        ),
    ],
)
def test_keys_that_do_not_fit_are_named(
    change: Callable[[State], State], problem: str, tmp_path: Path
) -> None:
    """Missing, unknown and misshapen keys are refused by name; the network stays as it was."""
    network = _network()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(WeightsError, match=re.escape(f"w.pt: {problem}; ")):
        load_strictly(network, change(_network(seed=9).state_dict()), source=tmp_path / "w.pt")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_two_keys_of_one_name_are_refused(tmp_path: Path) -> None:
    """Keys that become one name without their prefixes are refused, not silently replaced."""
    state = {"module.conv1.weight": torch.zeros(1), "conv1.weight": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"more than one tensor for conv1\.weight"):
        read_state(_saved(state, tmp_path))


class _Payload:
    """Creates a folder when it is unpickled by a loader that executes what a file says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_is_not_executed(tmp_path: Path, *, legacy: bool) -> None:
    """A file that would run code when unpickled is refused, and the code does not run."""
    payload, path = _Payload(tmp_path / "executed"), tmp_path / "evil.pth"
    torch.save({"state_dict": payload}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"evil\.pth: cannot be read as weights"):
        read_state(path)
    path.write_bytes(pickle.dumps(payload))
    with pytest.raises(WeightsError, match=r"evil\.pth: cannot be read as weights"):
        read_state(path)
    assert not payload.folder.exists()
    pickle.loads(path.read_bytes())  # noqa: S301  # the proof that the payload works
    assert payload.folder.exists()


@pytest.mark.parametrize(
    "content",
    [{}, torch.zeros(3), [torch.zeros(3)], {"conv1.weight": 3}, {1: torch.zeros(2)}, {"model": {}}],
    ids=str,
)
def test_a_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    """Whatever is not a non-empty mapping of names to tensors is no state dict."""
    path = _saved(content, tmp_path)
    with pytest.raises(WeightsError, match=re.escape(f"{path}: holds no state dict")):
        read_state(path)


def _refusal(path: Path) -> str:
    """Return the message of the WeightsError that reading `path` raises; empty where it is read."""
    try:
        read_state(path)
    except WeightsError as error:
        return str(error)
    return ""


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.tuples(st.integers(0, 2_000), st.binary(min_size=1, max_size=8)))
def test_a_damaged_file_is_read_or_refused(damage: tuple[int, bytes], tmp_path: Path) -> None:
    """Bytes overwritten anywhere give a state dict or a one-line WeightsError, never another exception."""
    path = _saved({"conv1.weight": torch.arange(4.0)}, tmp_path)
    content = bytearray(path.read_bytes())
    at, noise = damage[0] % len(content), damage[1]
    content[at : at + len(noise)] = noise
    path.write_bytes(content)
    message = _refusal(path)
    assert message.startswith(str(path)) or not message
    assert "\n" not in message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.none() | st.binary(max_size=60))
def test_random_bytes_and_no_file_are_refused(content: bytes | None, tmp_path: Path) -> None:
    """A file of random bytes, an empty one and one that is not there are a one-line WeightsError."""
    path = tmp_path / "noise.pt"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)
    message = _refusal(path)
    assert message.startswith(str(path))
    assert "\n" not in message


def test_an_exception_without_words_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where torch raises without a message, the error names the exception."""

    def fail(*_args: object, **_kwargs: object) -> None:
        raise AssertionError

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(WeightsError, match=r"cannot be read as weights \(AssertionError\)"):
        read_state(tmp_path / "any.pt")


@pytest.mark.parametrize("error", [None, OSError("no route to host"), RuntimeError("invalid hash")])
def test_imagenet_weights_are_torchvisions(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are torchvision's default, with their hash checked; a failed download is named with its cause."""
    asked = []

    def download(**options: bool) -> State:
        assert options == {"progress": False, "check_hash": True}
        if error:
            raise error
        return {"conv1.weight": torch.zeros(1)}

    default = SimpleNamespace(DEFAULT=SimpleNamespace(get_state_dict=download))
    monkeypatch.setattr(models, "get_model_weights", lambda name: asked.append(name) or default)
    if error is None:
        assert imagenet_state("resnet50").keys() == {"conv1.weight"}
    else:
        with pytest.raises(WeightsError, match=re.escape(f"weights of resnet50 ({error})")):
            imagenet_state("resnet50")
    assert asked == ["resnet50"]


def test_a_network_unknown_to_torchvision_has_no_imagenet_weights() -> None:
    """ImageNet weights for `tiny` are refused by its name."""
    with pytest.raises(WeightsError, match="backbone tiny has no ImageNet weights"):
        imagenet_state("tiny")


def test_pretrained_mobilenet_features_load(shared: Path) -> None:
    """The MobileNetV2 features trained on ImageNet load strictly and leave no key out."""
    state = read_state(shared / "weights" / "mobilenet_v2_imagenet_features.pt")
    network = cut_backbone("mobilenet_v2", stage=1).network
    assert load_strictly(network, state, source="shared") == []
    key = "features.0.0.weight"
    assert torch.equal(network.state_dict()[key], state[key])


def test_safetensors_load(tmp_path: Path) -> None:
    """A file of the safetensors library is read by it; a damaged one is refused in one line."""
    state = {name: value.contiguous() for name, value in _network().state_dict().items()}
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    found = read_state(path)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    path.write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_state(path)


def test_a_whole_model_is_told_from_its_weights(tmp_path: Path) -> None:
    """A pickled model is no state dict: reading it would run code, and the error says what to save."""
    path = _saved(nn.Linear(2, 2), tmp_path)
    with pytest.raises(WeightsError) as error:
        read_state(path)
    assert "holds Python objects, perhaps a whole model" in error.value.problem
    assert "model.state_dict()" in error.value.fix


def test_no_folder_is_made_where_the_home_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without HOME and a known user, torch would write into a folder `~`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(WeightsError, match="set TORCH_HOME to a folder, or pass --weights FILE"):
        imagenet_state("resnet18")
    assert not list(tmp_path.iterdir())
