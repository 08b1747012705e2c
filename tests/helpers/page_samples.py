"""A page of made-up videos, for the tests of pages in text and in a browser."""

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from clusters_samples import sample_clusters
from training_samples import sample_pictures, sample_video

from fvar.report.boundaries import Agreement, KnownSegment
from fvar.report.clusters_page.page import write_page
from fvar.report.clusters_page.video_pages import VideoPages
from fvar.report.comparison import Evaluation, compare_evaluations
from fvar.report.comparison_page import draw_comparison, write_comparison_page
from fvar.report.run_report import RunReport, Verdicts, write_run_report
from fvar.store.clusters.video_clusters import VideoClusters
from fvar.store.manifest import EvalSummary
from fvar.store.predictions_file import PredictionsTable

CLASSES = ("left", "right", "up", "down")
NASTY = "<script>alert(1)</script> & \"x\" 'y' ]]> {{ 7*7 }}"


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def with_logits(clusters: VideoClusters, *, seed: int = 0) -> VideoClusters:
    """Return clusters with made-up logits of `CLASSES`, whose mean is largest for the predicted class."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(clusters.num_clusters, len(CLASSES))).astype(np.float32)
    if clusters.predicted in CLASSES:
        logits[:, CLASSES.index(clusters.predicted)] += 3 + seed % 3
    fields = {name: getattr(clusters, name) for name in VideoClusters.__dataclass_fields__}
    return VideoClusters(**(fields | {"logits": logits}))


def write_sample_page(
    folder: Path,
    videos: list[VideoClusters],
    *,
    embed: bool = True,
    originals: dict[str, str] | None = None,
    text: str = "It is cut.",
    classes: tuple[str, ...] = CLASSES,
    others: Sequence[list[VideoClusters]] = (),
    known: dict[str, list[KnownSegment]] | None = None,
) -> Path:
    """Write the page of `videos` into `folder`, with its files, and return its path."""
    runs = [videos, *others]
    pages = VideoPages(
        folder,
        [clusters.id for clusters in videos],
        runs=[f"runs/{number}/train" for number in range(len(runs))],
        beside=not embed,
        drafts=folder / "unfinished",
        originals=originals or {},
        known=known or {},
    )
    for number, found in enumerate(zip(*runs, strict=True)):
        pictures = sample_pictures(found[0].id, found[0].num_frames)
        pages.write(number, found, sample_video(pictures))
    agreement = Agreement(0.5).plus([1.0, 3.0], [1.2])
    write_page(
        folder / "index.html",
        [pages.row(number, clusters) for number, clusters in enumerate(videos)],
        pages.embedded(),
        explanation=text,
        settings={"clustering": "cumulative, k = 8", "checkpoint": text},
        classes=classes,
        num_available=1234,
        agreements={"runs/0/train": agreement} if known else {},
    )
    return folder / "index.html"


def many_clusters(count: int) -> list[VideoClusters]:
    """Return different videos: lengths, classes, right and wrong in turn."""
    return [
        with_logits(
            sample_clusters(
                5 + 3 * n,
                8,
                seed=n,
                id=f"clip-{n}",
                label=CLASSES[n % 4],
                predicted=CLASSES[(n + (n % 3 == 0)) % 4],
            ),
            seed=n,
        )
        for n in range(count)
    ]


def details_of(page: str) -> dict[int, dict[str, Any]]:
    """Return what a page holds of its videos, by number."""
    found = re.findall(
        r'<script type="application/json" id="data-(\d+)">(.*?)</script>', page, re.DOTALL
    )
    return {int(number): json.loads(text) for number, text in found}


def sample_report(
    folder: Path, classes: list[str], labels: list[int], predicted: list[int]
) -> Path:
    """Write a report of made-up verdicts."""
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for label, other in zip(labels, predicted, strict=True):
        if label >= 0:
            matrix[label, other] += 1
    ids = [f"clip-{n} {classes[0]}" for n in range(len(labels))]
    confidence = [0.5 + n / 100 for n in range(len(labels))]
    report = RunReport(
        title=f"Evaluation of {classes[0]}",
        figures=[("top-1", "50.0%", "of 4 videos")],
        settings={"split": "test"},
        history=[
            {"train_loss": "2", "train_top1": "0.5", "val_top1": ""},
            {"train_loss": "1", "train_top1": "1", "val_top1": ""},
        ],
        chain=[("../manifest.json", "a" * 64)],
        commands=["fvar eval run"],
        toml="epochs = 2\n",
    )
    path = folder / "report.html"
    write_run_report(path, Verdicts(ids, labels, predicted, confidence, matrix, classes), report)
    return path


def sample_evaluation(name: str, predicted: Sequence[str], ids: str = "abcd") -> Evaluation:
    """Return an evaluation whose videos, named by the letters of `ids`, were predicted as given."""
    summary = EvalSummary(
        top1=0.5,
        top5=None,
        mean_class_accuracy=0.5,
        evaluated=len(ids),
        expected=len(ids),
        split="test",
        checkpoint="last",
        clustering="cumulative",
        clusters=8,
        crops=1,
        frames=100,
        seconds=1.0,
    )
    labels = ("x", "x", "y", "y")[: len(ids)]
    scores = np.full((len(ids), 2), 0.5)
    table = PredictionsTable(tuple(ids), labels, tuple(predicted), ("x", "y"), scores)
    return Evaluation(name, Path(name), summary, table, 12.0 if name == "first" else None)


def sample_comparison(folder: Path) -> Path:
    """Write the page of two made-up evaluations."""
    folder.mkdir(parents=True, exist_ok=True)
    both = compare_evaluations(
        [sample_evaluation("first", "xyyx"), sample_evaluation("runs/second/eval-test", "xxyy")]
    )
    write_comparison_page(folder / "comparison.html", both, draw_comparison(both))
    return folder / "comparison.html"
