"""One GPU: frames per second of decoding, of the stem and of a step, and the peak of its memory, as a table.

Usage: python benchmarks/gpu.py [--backbone resnet50] [--size 224] [--frames 512] [--ahead 0 2 4]
       [--precision auto] [--repeats 3] [--device cpu]

``make gpu`` runs it behind the tests that need a GPU. Without a GPU it says so and ends. ``--device cpu``
tries the script itself. A step is forward and backward of one video of JPEG pictures, with frozen batch norm
statistics and a stem that trains; ``--ahead`` is the number of chunks that are decoded before they are due.
The step on kept representations trains the trunk alone, as with a frozen stem whose results are known; its
frames per second count all frames of the video.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from measuring import CPU, PICTURE, backward, fastest, jpeg_clip, print_table, recognizer, step

from fvar.loading.clip import EncodedClip
from fvar.model.chunks import cut_chunks, made_ahead
from fvar.model.engine import represent
from fvar.model.interface import Representations, Sweep
from fvar.model.recognizer import Recognizer
from fvar.system import usable_processors
from fvar.training.distributed import autocast, autocast_dtype

NO_GPU = "no GPU: torch finds none, so nothing was measured"
Work = Callable[[], object]


def decode(clip: EncodedClip, sweep: Sweep) -> None:
    """Make the pictures of all frames on the device."""
    chunks = cut_chunks([range(clip.num_frames)], sweep.chunk_frames)
    for _ in made_ahead(lambda chunk: clip.pictures(chunk[1]), chunks, ahead=sweep.chunks_ahead):
        pass


@torch.no_grad()
def stem_forward(network: Recognizer, pictures: Sequence[torch.Tensor]) -> None:
    """Run the stem on chunks of pictures that are ready, without a tape."""
    weights = network.backbone.folded_stem.weights()
    for chunk in pictures:
        network.backbone.folded_stem(chunk, weights)


def stem_both_ways(network: Recognizer, pictures: Sequence[torch.Tensor]) -> None:
    """Run the stem forward and backward, chunk by chunk."""
    weights = [w.detach().requires_grad_() for w in network.backbone.folded_stem.weights()]
    for chunk in pictures:
        output = network.backbone.folded_stem(chunk, weights)
        torch.autograd.grad(output, weights, output)


def step_on_kept(network: Recognizer, seen: Representations) -> None:
    """Run the trunk forward and backward."""
    network.zero_grad()
    backward(network.classify(seen))


def works(
    network: Recognizer, sweep: Sweep, clip: EncodedClip, *, ahead: Sequence[int]
) -> Iterator[tuple[str, Work]]:
    """Yield what is measured, by name."""
    frames = [range(clip.num_frames)]
    by_ahead = {number: replace(sweep, chunks_ahead=number) for number in ahead}
    for number, chosen in by_ahead.items():
        yield f"decode, {number} chunks ahead", partial(decode, clip, chosen)
    pictures = [clip.pictures(chunk) for _, chunk in cut_chunks(frames, sweep.chunk_frames)]
    yield "stem forward, pictures ready", partial(stem_forward, network, pictures)
    yield "stem forward and backward", partial(stem_both_ways, network, pictures)
    pictures.clear()
    yield "step, plain", partial(step, network, replace(sweep, engine="plain"), clip)
    for number, chosen in by_ahead.items():
        name = f"step, chunked, nothing kept, {number} chunks ahead"
        yield name, partial(step, network, replace(chosen, keep_bytes=0), clip)
    yield "step, chunked, default settings", partial(step, network, sweep, clip)
    with torch.no_grad():
        seen = represent(network.backbone, [clip], sweep)
    yield "step on kept representations", partial(step_on_kept, network, seen)


def measure(work: Work, *, num_frames: int, repeats: int, device: torch.device) -> list[str]:
    """Return milliseconds, frames per second and, on a GPU, the peak of its memory in MB."""
    on_gpu = device.type == "cuda"

    def whole() -> None:
        work()
        if on_gpu:
            torch.cuda.synchronize()

    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        seconds = fastest(whole, repeats=repeats)
    except torch.OutOfMemoryError:
        return ["does not fit", "", ""]
    peak = f"{torch.cuda.max_memory_allocated() / 1e6:.0f}" if on_gpu else ""
    return [f"{seconds * 1000:.1f}", f"{num_frames / seconds:.0f}", peak]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--ahead", type=int, nargs="+", default=[0, 2, 4])
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    flags = parser.parse_args(arguments)
    if flags.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        return
    device = torch.device("cuda", 0) if flags.device == "cuda" else CPU
    network, sweep = recognizer(flags.backbone, flags.size, device=device)
    clip, rows = jpeg_clip(flags.frames, flags.size, device=device), []
    with autocast(flags.precision, device):
        for name, work in works(network, sweep, clip, ahead=flags.ahead):
            measured = measure(work, num_frames=flags.frames, repeats=flags.repeats, device=device)
            rows.append([name, *measured])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    precision = str(autocast_dtype(flags.precision, device) or torch.float32).removeprefix("torch.")
    print_table(
        f"{name}, {usable_processors()} processors, torch {torch.__version__}, {precision}: "
        f"{flags.backbone}, {flags.size} px, k = 8, {flags.frames} frames of {PICTURE[1]}x{PICTURE[0]} px, "
        f"{sweep.chunk_frames} in a chunk",
        ("", "ms", "frames/s", "peak MB"),
        rows,
    )


if __name__ == "__main__":
    main()
