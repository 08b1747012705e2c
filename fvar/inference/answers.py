"""The answers of `fvar predict`: one record per video, and the tables and pictures made of them."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from fvar.config import PredictConfig
from fvar.inference.prediction import Segment
from fvar.report.pictures.thumbnails import decode_thumbnail
from fvar.report.pictures.timeline import write_timeline
from fvar.store.encoded_video import EncodedVideo
from fvar.store.files import atomic_open, remove_outputs, slug
from fvar.store.manifest import Status

PREDICTIONS, TIMELINE = "predictions.csv", "timeline.csv"
WINDOWS, SEGMENTS, PICTURES = "windows.csv", "segments.csv", "timelines"


@dataclass(frozen=True)
class Answer:
    """What is known about one video.

    Attributes:
        path: As it was given or found.
        status: ok, partial or failed.
        reason: Why it is not ok.
        note: What to know although nothing is missing.
        label: The class with the highest probability; None where nothing was predicted.
        probability: Its probability, in 0..1.
        scores: By class, as many as there are classes; empty where nothing was predicted.
        num_frames: Frames that the network saw.
        seconds: Duration of the video.
        parts: Its clusters, or its windows, each with scores of its own.
        segments: What the windows were merged to; empty without windows.
    """

    path: Path
    status: Status
    reason: str | None
    note: str | None = None
    label: str | None = None
    probability: float | None = None
    scores: Sequence[float] = ()
    num_frames: int = 0
    seconds: float | None = None
    parts: Sequence[Segment] = ()
    segments: Sequence[Segment] = ()


@dataclass(frozen=True)
class Answers:
    """The answers for all videos, in order.

    Attributes:
        classes: Names of the classes.
        videos: One answer for each video.
    """

    classes: Sequence[str]
    videos: list[Answer] = field(default_factory=list)

    @property
    def counts(self) -> Counter[Status]:
        """How many videos have which status."""
        return Counter(answer.status for answer in self.videos)


class Table:
    """A CSV file that gets its rows one after the other."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, *cells: object) -> None:
        """Write a row; None is an empty cell."""
        self._writer.writerow(["" if cell is None else _text(cell) for cell in cells])


def _text(cell: object) -> str:
    return f"{cell:.9g}" if isinstance(cell, float | np.floating) else str(cell)


@contextmanager
def open_table(path: Path, columns: Sequence[str]) -> Iterator[Table]:
    """Open a table that appears at `path` when the block ends without an error."""
    with atomic_open(path, newline="") as file:
        table = Table(csv.writer(file, lineterminator="\n"))
        table.add(*columns)
        yield table


class AnswerWriter:
    """Writes the tables row by row, and the pictures of windows. A context manager.

    Attributes:
        names: The files, relative to the folder.
    """

    def __init__(self, out_dir: Path, config: PredictConfig, classes: Sequence[str]) -> None:
        """Prepare to write; files of an earlier run are deleted when the context is entered."""
        self._out, self._classes, self._slides = out_dir, classes, config.windows is not None
        self._stack, self._tables, self._num_drawn = ExitStack(), dict[str, Table](), 0
        parts = WINDOWS if self._slides else TIMELINE
        self.names = [PREDICTIONS, parts, *([SEGMENTS] if self._slides else [])]

    def __enter__(self) -> Self:
        remove_outputs(self._out, [PREDICTIONS, TIMELINE, WINDOWS, SEGMENTS, PICTURES])
        scores = [f"score:{name}" for name in self._classes]
        time_columns = ("start_seconds", "stop_seconds", "label", "probability")
        columns = {
            PREDICTIONS: (
                *("path", "label", "probability", "frames", "seconds", "status", "note"),
                *scores,
            ),
            TIMELINE: ("path", "cluster", *time_columns, *scores),
            WINDOWS: ("path", "window", *time_columns, *scores),
            SEGMENTS: ("path", "segment", *time_columns, *scores),
        }
        for name in self.names:
            table = open_table(self._out / name, columns[name])
            self._tables[name] = self._stack.enter_context(table)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def add(self, answer: Answer, video: EncodedVideo | None) -> None:
        """Write the rows of one video, and with windows its picture."""
        predictions, parts, *segments = self.names[:3]
        note = "; ".join(text for text in (answer.reason, answer.note) if text)
        scores: Sequence[float | None] = answer.scores or [None] * len(self._classes)
        self._tables[predictions].add(
            *(answer.path, answer.label, answer.probability, answer.num_frames),
            *(answer.seconds, answer.status, note, *scores),
        )
        self._add_parts(parts, answer.path, answer.parts)
        for name in segments if self._slides else []:
            self._add_parts(name, answer.path, answer.segments)
        if self._slides and answer.parts and video is not None:
            self._draw(answer, video)

    def _add_parts(self, name: str, path: Path, parts: Sequence[Segment]) -> None:
        for number, part in enumerate(parts):
            self._tables[name].add(
                *(path, number, part.start_seconds, part.stop_seconds),
                *(part.label, part.probability, *part.scores),
            )

    def _draw(self, answer: Answer, video: EncodedVideo) -> None:
        name = f"{PICTURES}/{self._num_drawn:05d}-{slug(answer.path.stem)}.png"
        self._num_drawn += 1
        self.names.append(name)
        write_timeline(
            self._out / name,
            answer.parts,
            answer.segments,
            self._classes,
            title=answer.path.name,
            pts_seconds=video.pts_seconds,
            picture=lambda frame, least: decode_thumbnail(video.frame(frame), least=least),
        )
