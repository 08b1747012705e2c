"""One training step by each engine: time, peak memory and their ratios, each in a process of its own.

Usage: python benchmarks/engines.py [--backbone resnet50] [--size 112] [--frames 32 64 128]
       [--plain-up-to 128] [--repeats 3]

A step is forward and backward of one video of JPEG pictures, with frozen batch norm statistics and a stem
that trains. Peak memory is the process's largest resident set, the program and the encoded frames included.
"""

import argparse

from measuring import (
    fastest,
    in_fresh_process,
    jpeg_clip,
    peak_mb,
    print_machine,
    print_table,
    recognizer,
    script_name,
    step,
)


def measure(backbone: str, engine: str, num_frames: int, size: int, repeats: int) -> None:
    """Print seconds and MB of one step, in this process."""
    network, sweep = recognizer(backbone, size, engine=engine)
    clip = jpeg_clip(num_frames, size)
    print(fastest(lambda: step(network, sweep, clip), repeats=repeats), peak_mb())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--frames", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--plain-up-to", type=int, default=128, help="frames; it needs the memory")
    parser.add_argument("--repeats", type=int, default=3, help="0: a first step alone")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one:
        backbone, engine, *numbers = flags.one
        measure(backbone, engine, *map(int, numbers))
        return
    rows = []
    for num_frames in flags.frames:
        measured = {
            engine: in_fresh_process(
                script_name(__file__), flags.backbone, engine, num_frames, flags.size, flags.repeats
            )
            for engine in ("plain", "chunked")
            if engine == "chunked" or num_frames <= flags.plain_up_to
        }
        rows.append(_row(num_frames, measured))
    print_table(
        f"one step, {flags.backbone}, {flags.size} px, k = 8, float32: chunked against plain",
        ("frames", "plain s", "chunked s", "ratio", "plain MB", "chunked MB", "ratio"),
        rows,
    )
    print_machine()


def _row(num_frames: int, measured: dict[str, list[float]]) -> list[str]:
    seconds, megabytes = measured["chunked"]
    if "plain" not in measured:
        return [str(num_frames), "", f"{seconds:.2f}", "", "", f"{megabytes:.0f}", ""]
    plain_seconds, plain_megabytes = measured["plain"]
    return [
        str(num_frames),
        f"{plain_seconds:.2f}",
        f"{seconds:.2f}",
        f"{seconds / plain_seconds:.2f}",
        f"{plain_megabytes:.0f}",
        f"{megabytes:.0f}",
        f"{megabytes / plain_megabytes:.2f}",
    ]


if __name__ == "__main__":
    main()
