"""The page of a run's clusters: HTML that needs no network.

What belongs to one video, its numbers and its sprite, is inside the page up to `MAX_EMBEDDED` videos, so that
one file can be passed on. Beyond, it lies beside the page, in a script and a picture for each video, loaded
when the video is opened: a browser lets a page on the disk load scripts from its folder, and no data.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from fvar.report.boundaries import Agreement
from fvar.report.clusters_page import charts
from fvar.report.templates import load_template
from fvar.store.files import atomic_open

MAX_EMBEDDED = 50  # videos inside the page, about 0.2 MB each


@dataclass(frozen=True)
class Row:
    """A video in the table: its clusters without the parts that grow with its length.

    Attributes:
        number: From 0, in the order of the source CSV.
        id: Of the video.
        label: Its class, or empty.
        predicted: The class that the network predicts.
        verdict: ``right``, ``wrong`` or ``no label``.
        num_frames: T.
        sizes: Frames of each cluster.
        confidence: Softmax of the predicted class; None if not kept.
        margin: By how much it exceeds the next; None if not kept.
        evenness: As `VideoClusters.evenness`.
        change: Sum of the normalized Hamming distances.
        stripes: The clusters as the colors of a CSS gradient.
        filmstrip: Path of its picture from the page.
        detail: Path of its script from the page; None where the page holds it.
    """

    number: int
    id: str
    label: str
    predicted: str
    verdict: str
    num_frames: int
    sizes: Sequence[int]
    confidence: float | None
    margin: float | None
    evenness: float
    change: float
    stripes: str
    filmstrip: str
    detail: str | None


def write_page(
    path: Path,
    rows: Sequence[Row],
    details: Iterable[tuple[int, str]],
    *,
    explanation: str,
    settings: Mapping[str, str],
    classes: Sequence[str],
    num_available: int,
    agreements: Mapping[str, Agreement],
) -> None:
    """Write the HTML file `path`.

    Args:
        path: The file, ``index.html``.
        rows: The inspected videos in order, at least one.
        details: Number and detail, as `as_json` returns it, of each video that the page holds; taken one at
            a time.
        explanation: How the clustering cuts a video, in a sentence.
        settings: Name and value of each setting at the top of the page, in order.
        classes: Names of the C classes.
        num_available: Number of videos in the split.
        agreements: Of each run's boundaries with known segments, by its name; empty where none are known.

    Raises:
        StoppedError: The disk is full.
    """
    pieces = load_template("clusters_page/page.html.j2").generate(
        rows=rows,
        details=((number, Markup(detail)) for number, detail in details),  # noqa: S704
        charts=charts.charts([row.sizes for row in rows]),
        geometry=charts,
        explanation=explanation,
        settings=settings,
        figures=_figures(rows, num_available=num_available),
        labels=sorted({row.label for row in rows if row.label}),
        counts={
            verdict: sum(row.verdict == verdict for row in rows)
            for verdict in ("right", "wrong", "no label")
        },
        meta=Markup(as_json({"classes": list(classes)})),  # noqa: S704
        num_beside=sum(row.detail is not None for row in rows),
        agreements=agreements,
    )
    with atomic_open(path) as file:
        file.writelines(pieces)


def as_json(value: object) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _figures(rows: Sequence[Row], *, num_available: int) -> list[tuple[str, str, str]]:
    """Return the headline figures: name, value, explanation."""
    sizes = [size for row in rows for size in row.sizes]
    frames, singles = sum(sizes), sum(size == 1 for size in sizes)
    return [
        ("videos", f"{len(rows):,}", f"of {num_available:,} in the split"),
        ("frames", f"{frames:,}", "each in exactly one cluster"),
        ("clusters", f"{len(sizes):,}", f"{frames / len(sizes):,.1f} frames on average"),
        ("single frames", f"{singles:,}", "clusters of one frame"),
        _right_figure(rows),
    ]


def _right_figure(rows: Sequence[Row]) -> tuple[str, str, str]:
    labelled = sum(bool(row.label) for row in rows)
    right = sum(row.verdict == "right" for row in rows)
    if not labelled:
        return ("right", "?", "no video has a label")
    noun = "videos" if labelled == len(rows) else "videos with a label"
    return ("right", f"{right / labelled:.1%}", f"{right:,} of {labelled:,} {noun}")
