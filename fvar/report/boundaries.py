"""Boundaries between clusters against the ends of known segments: precision, recall and F1 at a tolerance."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fvar.errors import InputError
from fvar.store.clusters.clusters_file import read_clusters
from fvar.store.clusters.video_clusters import VideoClusters
from fvar.store.files import atomic_open

SEGMENT_COLUMNS = ("id", "start_seconds", "stop_seconds", "name")
_DIGITS = 6  # of seconds: what a CSV's decimals lose does not count
EQUAL_PARTS = "equal parts"  # in place of a run's name
AGREEMENT_COLUMNS = (
    *("run", "tolerance", "videos", "found", "known", "matched"),
    *("precision", "recall", "f1"),
)


@dataclass(frozen=True)
class KnownSegment:
    """A part of a video that somebody has marked; seconds as in ``clusters.csv``."""

    start_seconds: float
    stop_seconds: float
    name: str


@dataclass(frozen=True)
class Agreement:
    """How well boundaries agree with the known ones, summed over videos.

    Attributes:
        tolerance: How far apart two boundaries may be that match, s.
        videos: Number of videos.
        found: Number of boundaries between clusters.
        known: Number of ends of known segments inside the videos.
        matched: Number of pairs, one of each, within the tolerance; none is in two pairs.
    """

    tolerance: float
    videos: int = 0
    found: int = 0
    known: int = 0
    matched: int = 0

    @property
    def precision(self) -> float | None:
        """Share of the found boundaries that are matched; None without any."""
        return self.matched / self.found if self.found else None

    @property
    def recall(self) -> float | None:
        """Share of the known boundaries that are matched; None without any."""
        return self.matched / self.known if self.known else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None without any boundary."""
        both = self.found + self.known
        return 2 * self.matched / both if both else None

    def plus(self, found: Sequence[float], known: Sequence[float]) -> "Agreement":
        """Return the agreement with one more video, whose boundaries are these, s, rising."""
        return Agreement(
            self.tolerance,
            self.videos + 1,
            self.found + len(found),
            self.known + len(known),
            self.matched + num_matched(found, known, tolerance=self.tolerance),
        )


def num_matched(found: Sequence[float], known: Sequence[float], *, tolerance: float) -> int:
    """Return the largest number of pairs no further apart than `tolerance`; both are rising, s."""
    matched = at = other = 0
    while at < len(found) and other < len(known):
        difference = round(found[at] - known[other], _DIGITS)
        if abs(difference) <= tolerance:
            matched += 1
        # The earlier of two that do not match has no partner later on.
        at += difference <= tolerance
        other += difference >= -tolerance
    return matched


def known_boundaries(
    segments: Iterable[KnownSegment], clusters: VideoClusters, *, tolerance: float
) -> list[float]:
    """Return the ends of segments inside a video, s, rising, each once; see `found_boundaries`."""
    ends = {
        round(time, _DIGITS)
        for part in segments
        for time in (part.start_seconds, part.stop_seconds)
    }
    return _inside(sorted(ends), clusters, tolerance=tolerance)


def found_boundaries(clusters: VideoClusters, *, tolerance: float) -> list[float]:
    """Return where the clusters of a video begin, without the first one, s, rising.

    Nothing within the tolerance of the video's start or end counts, known ends neither: it may be that start
    or end itself.
    """
    return _inside(clusters.start_seconds[1:].tolist(), clusters, tolerance=tolerance)


def equal_parts(clusters: VideoClusters, *, tolerance: float) -> list[float]:
    """Return the boundaries of as many parts of equal duration, s: what knows nothing of the video."""
    first, count = float(clusters.pts_seconds[0]), clusters.num_clusters
    times = [first + part * clusters.duration_seconds / count for part in range(1, count)]
    return _inside(times, clusters, tolerance=tolerance)


def _inside(times: Iterable[float], clusters: VideoClusters, *, tolerance: float) -> list[float]:
    first, last = float(clusters.pts_seconds[0]), float(clusters.stop_seconds[-1])
    return [time for time in times if first + tolerance < time < last - tolerance]


def compare_boundaries(
    runs: Mapping[str, Path], known: Mapping[str, Sequence[KnownSegment]], *, tolerance: float
) -> dict[str, Agreement]:
    """Return the agreement of each run, and of as many equal parts as the first has clusters.

    Args:
        runs: The file ``clusters.h5`` of each run, by its name.
        known: Marked segments by the id of the video; videos without any are left out.
        tolerance: As `Agreement.tolerance`.

    Raises:
        ManifestError: A file is damaged.
    """
    first = next(iter(runs))
    agreements = dict.fromkeys([*runs, EQUAL_PARTS], Agreement(tolerance))
    for name, file in runs.items():
        for clusters in read_clusters(file):
            if clusters.id not in known:
                continue
            wanted = known_boundaries(known[clusters.id], clusters, tolerance=tolerance)
            found = found_boundaries(clusters, tolerance=tolerance)
            agreements[name] = agreements[name].plus(found, wanted)
            if name == first:
                parts = equal_parts(clusters, tolerance=tolerance)
                agreements[EQUAL_PARTS] = agreements[EQUAL_PARTS].plus(parts, wanted)
    return agreements


def read_segments(path: Path) -> dict[str, list[KnownSegment]]:
    """Return the segments of each video, by id, from a CSV with the columns `SEGMENT_COLUMNS`.

    Raises:
        InputError: It cannot be read, lacks a column, or a row is wrong; names the line.
    """
    segments: dict[str, list[KnownSegment]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [name for name in SEGMENT_COLUMNS if name not in (rows.fieldnames or [])]
            if missing:
                raise InputError(
                    path,
                    f"lacks the column {missing[0]}",
                    fix=f"give it the columns {', '.join(SEGMENT_COLUMNS)}",
                )
            for row in rows:
                part = _segment(row, f"{path}: line {rows.line_num}")
                segments.setdefault(row["id"], []).append(part)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(path, f"cannot be read ({error})", fix="give a CSV in UTF-8") from error
    return segments


def _segment(row: Mapping[str, str | None], where: str) -> KnownSegment:
    try:
        start, stop = (float(row[name] or "") for name in ("start_seconds", "stop_seconds"))
    except ValueError:
        start = stop = math.nan
    if not 0 <= start < stop < math.inf:
        raise InputError(
            where,
            f"start_seconds {row['start_seconds']!r} and stop_seconds {row['stop_seconds']!r} "
            "are no interval",
            fix="write two numbers of seconds, the first smaller and not negative",
        )
    if not row["id"]:
        raise InputError(where, "has no id", fix="write the id of the video in the source CSV")
    return KnownSegment(start, stop, row["name"] or "")


def write_agreements(path: Path, agreements: Mapping[str, Agreement]) -> None:
    """Write one row for each run; what is unknown is empty.

    Raises:
        StoppedError: The disk is full.
    """
    with atomic_open(path, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(AGREEMENT_COLUMNS)
        for name, row in agreements.items():
            shares = (row.precision, row.recall, row.f1)
            writer.writerow(
                [
                    *(name, row.tolerance, row.videos, row.found, row.known, row.matched),
                    *("" if share is None else f"{share:.6f}" for share in shares),
                ]
            )
