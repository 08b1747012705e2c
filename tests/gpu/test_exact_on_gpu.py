"""On a GPU the chunked engine gives what plain gives, and what a CPU gives, in every precision."""

from pathlib import Path

import pytest
import torch
from engine_steps import (
    ENGINES,
    PLENTY,
    Step,
    assert_same_step,
    backward,
    distance,
    make_recognizer,
    make_sweep,
    take_step,
    total_distance,
)
from parallel_steps import BATCHES, load_steps, save_steps, take_steps
from processes import processes
from tensor_clips import random_clips, settled_backbone
from torch import Tensor, nn

from fvar.model.engine import represent
from fvar.model.interface import Engine
from fvar.model.recognizer import Recognizer
from fvar.names import clustering_names
from fvar.training.distributed import World

pytestmark = pytest.mark.gpu
ALL_SEEDS = range(6)
LENGTHS = (9, 1, 4)
CPU = torch.device("cpu")
OTHER_ORDER = 1e-9  # relative L2 in float64; convolutions of another library add in another order


def _recognizer(
    device: torch.device, dtype: torch.dtype, *, name: str = "tiny", seed: int = 0
) -> Recognizer:
    return make_recognizer(settled_backbone(name, dtype=dtype, seed=seed)).to(device)


def _on_host(step: Step) -> Step:
    gradients = {name: gradient.cpu() for name, gradient in step.gradients.items()}
    return Step(step.logits.cpu(), step.loss.cpu(), gradients)


@pytest.mark.parametrize("keep", [0, 60_000, PLENTY])
@pytest.mark.parametrize("clustering", clustering_names())
def test_chunked_equals_plain_in_float64(device: torch.device, clustering: str, keep: int) -> None:
    """Both engines give the same clusters, logits and gradients, with all, some or no activations kept."""
    clips, recognizer = random_clips(LENGTHS, device=device), _recognizer(device, torch.float64)
    sweeps = [make_sweep(clustering, engine=engine, keep=keep) for engine in ENGINES]
    cuts = [represent(recognizer.backbone, clips, sweep).clusters for sweep in sweeps]
    assert cuts[0] is not None
    assert cuts[1] is not None
    assert torch.equal(cuts[0].starts, cuts[1].starts)
    assert_same_step(*(take_step(recognizer, clips, sweep) for sweep in sweeps))


@pytest.mark.parametrize("name", ["tiny", "resnet18", "mobilenet_v2"])
def test_a_gpu_gives_what_a_cpu_gives(device: torch.device, name: str) -> None:
    """In float64 the chunked step is that of the CPU, up to the order of its sums."""
    found, wanted = (
        _on_host(
            take_step(
                _recognizer(where, torch.float64, name=name),
                random_clips(LENGTHS, size=32, device=where),
                make_sweep(keep=0),
            )
        )
        for where in (device, CPU)
    )
    assert distance(found.logits, wanted.logits) <= OTHER_ORDER
    assert total_distance(found.gradients, wanted.gradients) <= OTHER_ORDER


def _distance_in_bfloat16(device: torch.device, engine: Engine, seed: int) -> float:
    """Return how far an engine's gradient under bfloat16 autocast is from plain's in float64."""
    gradients = []
    for dtype, used in ((torch.float64, "plain"), (torch.float32, engine)):
        clips = random_clips([7, 2], seed=seed, size=32, dtype=dtype, device=device)
        recognizer = _recognizer(device, dtype, seed=seed)
        narrow = dtype == torch.float32
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=narrow):
            logits = recognizer(clips, make_sweep("even", engine=used, chunk=3, keep=300_000))
        gradients.append(backward(recognizer, logits).gradients)
    return total_distance(gradients[1], gradients[0])


def test_bfloat16_in_chunks_is_no_further_off_than_plain(device: torch.device) -> None:
    """Over all seeds, the chunked bfloat16 gradient is at most 1.5 times as far from float64 as plain's."""
    plain, chunked = (
        sum(_distance_in_bfloat16(device, engine, seed) for seed in ALL_SEEDS) / len(ALL_SEEDS)
        for engine in ("plain", "chunked")
    )
    assert 0.001 < plain < 0.5
    assert chunked <= 1.5 * plain


@pytest.mark.parametrize("keep", [0, PLENTY])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_sweep_runs_in_the_autocast_dtype(
    device: torch.device, dtype: torch.dtype, keep: int
) -> None:
    """So does the sweep of the backward pass, which runs outside of autocast in a thread of autograd's."""
    recognizer, seen = _recognizer(device, torch.float32), set[torch.dtype]()
    clips = random_clips([9, 2], dtype=torch.float32, device=device)
    for module in recognizer.backbone.folded_stem.shape.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *call: seen.add(call[-1].dtype))
    with torch.autocast(device.type, dtype=dtype):
        logits = recognizer(clips, make_sweep(keep=keep))
    found = backward(recognizer, logits)
    assert seen == {dtype}
    assert {gradient.dtype for gradient in found.gradients.values()} == {torch.float32}


def _scaled_step(
    device: torch.device, engine: Engine, scale: float
) -> tuple[dict[str, Tensor], bool, float]:
    """Take an fp16 step; return the unscaled gradients, whether weights changed, and the next scale."""
    recognizer = _recognizer(device, torch.float32)
    clips = random_clips([7, 2], size=32, dtype=torch.float32, device=device)
    scaler = torch.amp.GradScaler(device.type, init_scale=scale)
    optimizer = torch.optim.SGD(recognizer.parameters(), lr=0.1)
    with torch.autocast(device.type, dtype=torch.float16):
        logits = recognizer(clips, make_sweep("even", engine=engine, chunk=3, keep=0))
    labels = torch.arange(2, device=device)
    loss = nn.functional.cross_entropy(logits.float(), labels)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    gradients = {name: p.grad.clone() for name, p in recognizer.named_parameters()}
    before = recognizer.classifier.weight.detach().clone()
    scaler.step(optimizer)
    scaler.update()
    return (
        gradients,
        not torch.equal(recognizer.classifier.weight, before),
        float(scaler.get_scale()),
    )


def test_a_scaled_loss_gives_the_gradient_in_float16(device: torch.device) -> None:
    """With GradScaler the chunked float16 gradient is near plain's in float64, and weights change."""
    exact = take_step(
        _recognizer(device, torch.float64),
        random_clips([7, 2], size=32, device=device),
        make_sweep("even", engine="plain"),
    ).gradients
    gradients, changed, _ = _scaled_step(device, "chunked", 2.0**8)
    assert changed
    assert total_distance(gradients, exact) < 0.05


@pytest.mark.parametrize("engine", ENGINES)
def test_an_overflow_skips_the_step_and_halves_the_scale(
    device: torch.device, engine: Engine
) -> None:
    """A scale too large for float16 makes gradients infinite in both engines, which GradScaler sees."""
    _, changed, scale = _scaled_step(device, engine, 2.0**40)
    assert (changed, scale) == (False, 2.0**39)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_gpus_take_the_steps_of_one(gpu: torch.device, engine: Engine, tmp_path: Path) -> None:
    """Through DistributedDataParallel and NCCL 2 GPUs' gradients, step for step, are those of one."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    ended = processes(2, save_steps, engine, tmp_path, "cuda")
    assert [code for code, _, _ in ended] == [0, 0], ended
    wanted = take_steps(engine, World(0, 1, gpu))
    for rank in range(2):
        found = load_steps(tmp_path / f"{rank}.pt")
        assert len(found) == len(BATCHES) + 1
        for mine, alone in zip(found, wanted, strict=True):
            assert total_distance(mine, alone) <= OTHER_ORDER
