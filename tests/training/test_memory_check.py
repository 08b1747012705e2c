"""The memory that the plain engine needs is known before it is used."""

from typing import Any

import pytest
import torch
from tensor_clips import random_clips
from torch.autograd.graph import saved_tensors_hooks

from fvar.config import TrainConfig
from fvar.errors import ConfigError
from fvar.model.build import build_recognizer, build_sweep
from fvar.model.interface import Sweep
from fvar.model.recognizer import Recognizer
from fvar.training import memory_check
from fvar.training.memory_check import bytes_per_frame, check_memory

CPU = torch.device("cpu")
SIZE = 32


def _built(**settings: Any) -> tuple[Recognizer, Sweep]:
    torch.manual_seed(0)
    fixed = {
        "backbone": "tiny",
        "weights": "none",
        "engine": "plain",
        "clusters": 2,
        "dropout": 0.5,
    }
    config = TrainConfig.model_validate(fixed | settings)
    recognizer = build_recognizer(config, num_classes=3)
    return recognizer, build_sweep(config, recognizer.backbone)


def _saved_bytes(recognizer: Recognizer, sweep: Sweep, num_frames: int) -> int:
    """Return the bytes of all storages that a forward pass keeps, parameters aside."""
    parameters = {p.untyped_storage().data_ptr() for p in recognizer.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = recognizer(random_clips([num_frames], size=SIZE, dtype=torch.float32), sweep)
        assert logits.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("norm", ["train", "frozen"])
@pytest.mark.parametrize("clustering", ["even", "none"])
def test_bytes_per_frame_are_what_a_longer_video_adds(clustering: str, norm: str) -> None:
    """Ten frames more keep ten times as much, within 10 %: of the stem, for `none` of the whole network."""
    recognizer, sweep = _built(clustering=clustering, norm=norm)
    added = (_saved_bytes(recognizer, sweep, 22) - _saved_bytes(recognizer, sweep, 12)) / 10
    assert bytes_per_frame(recognizer, sweep, size=SIZE, device=CPU) == pytest.approx(
        added, rel=0.1
    )


def test_measuring_leaves_no_trace() -> None:
    """The statistics of a batch norm that trains stay as they are."""
    recognizer, sweep = _built(clustering="none")
    before = {name: value.clone() for name, value in recognizer.state_dict().items()}
    bytes_per_frame(recognizer, sweep, size=SIZE, device=CPU)
    assert all(torch.equal(value, before[name]) for name, value in recognizer.state_dict().items())


def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is refused from the first byte that is missing."""
    recognizer, sweep = _built()
    need = 5 * bytes_per_frame(recognizer, sweep, size=SIZE, device=CPU)
    monkeypatch.setattr(memory_check, "total_host_memory", lambda: need)
    check_memory(recognizer, sweep, size=SIZE, num_frames=5, device=CPU)
    monkeypatch.setattr(memory_check, "total_host_memory", lambda: need - 1)
    with pytest.raises(ConfigError, match=r"a batch of 5 frames needs .* \(to 4 at most\)"):
        check_memory(recognizer, sweep, size=SIZE, num_frames=5, device=CPU)


def test_memory_of_a_gpu_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU its own memory counts."""
    recognizer, sweep = _built()
    monkeypatch.setattr(memory_check, "bytes_per_frame", lambda *_, **__: 10)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1, 39))
    with pytest.raises(ConfigError, match="cuda:1 has 0 GB"):
        check_memory(recognizer, sweep, size=SIZE, num_frames=4, device=torch.device("cuda", 1))
