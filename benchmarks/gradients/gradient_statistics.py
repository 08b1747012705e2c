"""Cosines of many videos' gradients to those over all frames: means, standard errors, batches and controls.

Letters: K clusters or sampled frames.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean, stdev
from typing import Literal

from gradient_cosines import (
    ALL_FRAMES,
    METHODS,
    STAGES,
    Gradient,
    LabelledClip,
    Method,
    cosines,
    gradient,
)

from fvar.loading.sampling import draw_key
from fvar.model.recognizer import Recognizer

CLUSTERS = (4, 8, 16)
BATCH = 4  # videos in a summed gradient
SEED = 0
SAME_CLASS, OTHER_CLASS = "control: same class", "control: other class"

Scope = Literal["video", "batch"]


@dataclass(frozen=True)
class Cosine:
    """A cosine over the videos (or batches of `BATCH` of them), mean and standard error.

    Attributes:
        method: A name of `METHODS`, `none` itself, or a control: `none` gradients of two different videos.
        clusters: K; None for `none` and a control.
        scope: Whether single videos' gradients are compared or those summed over a batch.
        stage: One of `STAGES`.
        mean: Over `num` videos, video pairs or batches.
        error: Standard error of the mean; None for a single one.
        num: How many.
        seconds: Forward and backward of one video, mean; None for a control.
        over_even: How much closer than `even` on the same videos, mean of the differences; None for what
            has no `even` beside it.
        over_even_error: Its standard error.
    """

    method: str
    clusters: int | None
    scope: Scope
    stage: str
    mean: float
    error: float | None
    num: int
    seconds: float | None
    over_even: float | None = None
    over_even_error: float | None = None


def measure(
    recognizer: Recognizer,
    clips: Iterable[LabelledClip],
    *,
    clusters: Sequence[int] = CLUSTERS,
    advance: Callable[[], None] = lambda: None,
) -> list[Cosine]:
    """Compare every method with `none`, video by video and summed over batches, and videos among them.

    The recognizer is put into evaluation mode, and all its parameters have gradients afterwards.

    Args:
        recognizer: Its own clustering is not used.
        clips: Videos; those left over from the last whole batch count alone only.
        clusters: The values of K.
        advance: Called after each video.
    """
    recognizer.eval().requires_grad_(requires_grad=True)
    table = _Table()
    references: list[Gradient] = []
    labels: list[int] = []
    for number, clip in enumerate(clips, start=1):
        references.append(_compare(recognizer, clip, table, clusters=clusters))
        labels.append(clip.label)
        if number % BATCH == 0:
            table.close_batch()
        advance()
    for name, at, other in _control_pairs(labels):
        table.add(name, None, "video", cosines(references[at], references[other]))
    return table.summary()


def _compare(
    recognizer: Recognizer, clip: LabelledClip, table: "_Table", *, clusters: Sequence[int]
) -> Gradient:
    """Enter one video's cosines to its gradient over all frames; return that gradient."""
    reference, seconds = _timed(recognizer, clip, ALL_FRAMES, 1)
    table.seconds["none", None].append(seconds)
    table.accumulate("none", None, 0, reference)
    table.add("none", None, "video", cosines(reference, reference))
    for (name, method), k in product(METHODS.items(), clusters):
        found = []
        for draw in range(method.num_draws):
            keyed = replace(clip, cut_key=draw_key(SEED, draw, clip.id, "gradients"))
            through, seconds = _timed(recognizer, keyed, method, k)
            table.seconds[name, k].append(seconds)
            table.accumulate(name, k, draw, through)
            found.append(cosines(through, reference))
        table.add(name, k, "video", _mean_of(found))
    return reference


def _timed(
    recognizer: Recognizer, clip: LabelledClip, method: Method, clusters: int
) -> tuple[Gradient, float]:
    started = time.perf_counter()
    found = gradient(recognizer, clip, method, clusters)
    return found, time.perf_counter() - started


def _control_pairs(labels: Sequence[int]) -> Iterator[tuple[str, int, int]]:
    """Pair each video with the next one of its class and the next one of another, where there is one."""
    for at, label in enumerate(labels):
        for name, wanted in ((SAME_CLASS, True), (OTHER_CLASS, False)):
            following = range(at + 1, len(labels))
            other = next((o for o in following if (labels[o] == label) is wanted), None)
            if other is not None:
                yield name, at, other


def _mean_of(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {stage: fmean(one[stage] for one in found) for stage in STAGES}


class _Table:
    """Cosines as they come in, and the gradients of the batch that is being summed."""

    def __init__(self) -> None:
        self.seconds = defaultdict[tuple[str, int | None], list[float]](list)
        self._found = defaultdict[tuple[str, int | None, Scope], list[Mapping[str, float]]](list)
        self._sums: dict[tuple[str, int | None], dict[int, Gradient]] = defaultdict(dict)

    def add(self, name: str, k: int | None, scope: Scope, found: Mapping[str, float]) -> None:
        self._found[name, k, scope].append(found)

    def accumulate(self, name: str, k: int | None, draw: int, part: Gradient) -> None:
        so_far = self._sums[name, k].get(draw)
        if so_far is None:
            self._sums[name, k][draw] = {stage: values.clone() for stage, values in part.items()}
        else:
            for stage, values in part.items():
                so_far[stage].add_(values)

    def close_batch(self) -> None:
        """Compare the summed gradients and start the next batch."""
        reference = self._sums["none", None][0]
        for (name, k), draws in self._sums.items():
            self.add(name, k, "batch", _mean_of([cosines(g, reference) for g in draws.values()]))
        self._sums.clear()

    def summary(self) -> list[Cosine]:
        return [self._summed_up(*key, stage) for key in list(self._found) for stage in STAGES]

    def _summed_up(self, name: str, k: int | None, scope: Scope, stage: str) -> Cosine:
        values = [one[stage] for one in self._found[name, k, scope]]
        even = [one[stage] for one in self._found.get(("even", k, scope), [])]
        closer = (
            [value - beside for value, beside in zip(values, even, strict=True)] if even else []
        )
        return Cosine(
            name,
            k,
            scope,
            stage,
            mean=fmean(values),
            error=_standard_error(values),
            num=len(values),
            seconds=fmean(self.seconds[name, k]) if (name, k) in self.seconds else None,
            over_even=fmean(closer) if closer else None,
            over_even_error=_standard_error(closer),
        )


def _standard_error(values: Sequence[float]) -> float | None:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
