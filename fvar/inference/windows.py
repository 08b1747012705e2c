"""Windows that slide over a long video, and the segments that their scores give.

Letters: T frames of the video, n frames of a chunk, C classes, H, W.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise

import numpy as np
import torch
from torch import Tensor

from fvar.inference.prediction import Segment, make_segment
from fvar.store.clusters.video_clusters import last_frame_seconds
from fvar.store.encoded_video import EncodedVideo

Span = tuple[int, int]  # frames [start, stop)


def window_spans(video: EncodedVideo, *, seconds: float, hop_seconds: float) -> list[Span]:
    """Return the frames of each window, in order: every frame is in at least one.

    Windows begin every `hop_seconds`; the last one ends with the video. A window in which no frame is shown
    is left out. A video that is no longer than a window has one.
    """
    pts = video.pts_seconds
    end = pts[-1] + last_frame_seconds(pts, video.fps)
    last_start = max(pts[0], end - seconds)
    starts = np.append(np.arange(pts[0], last_start, hop_seconds), last_start)
    # Times have rounding errors: a frame at the edge of a window belongs to the window that it begins.
    tolerance = last_frame_seconds(pts, video.fps) / 100
    firsts = np.searchsorted(pts, starts - tolerance)
    stops = np.searchsorted(pts, starts + seconds - tolerance)
    stops[-1] = len(pts)
    spans = dict.fromkeys(zip(firsts.tolist(), stops.tolist(), strict=True))
    return [(start, stop) for start, stop in spans if start < stop]


def outputs_of_spans(chunks: Iterator[Tensor], spans: Sequence[Span]) -> Iterator[Tensor]:
    """Yield the outputs (stop - start, C, H, W) of each span of frames; spans rise at both ends.

    Args:
        chunks: Outputs (n, C, H, W) of consecutive frames; each is taken once, and held while it is needed.
        spans: In order.
    """
    held, first, end = deque[Tensor](), 0, 0  # `held` are the frames [first, end)
    for start, stop in spans:
        while end < stop:
            held.append(next(chunks))
            end += len(held[-1])
        while first + len(held[0]) <= start:
            first += len(held.popleft())
        yield torch.cat(list(held))[start - first : stop - first]


def merge_windows(
    windows: Sequence[Segment], video: EncodedVideo, classes: Sequence[str], *, threshold: float
) -> list[Segment]:
    """Return the segments in which one class leads with at least `threshold`, in order of time.

    Windows rise at both ends. At each frame the scores are the mean over those that hold it. Consecutive
    frames with the same leading class are a segment; its scores are the mean over its frames.
    """
    edges = sorted({edge for w in windows for edge in (w.start_frame, w.stop_frame)})
    starts, stops = ([getattr(w, f"{end}_frame") for w in windows] for end in ("start", "stop"))
    parts = []
    for start, stop in pairwise(edges):
        holding = windows[bisect_left(stops, stop) : bisect_right(starts, start)]
        scores = [window.scores for window in holding]
        if scores:
            parts.append(make_segment(video, start, stop, np.mean(scores, axis=0), classes))
    leading = [list(group) for _, group in groupby(parts, key=lambda part: part.label)]
    merged = [_join(group, video, classes) for group in leading]
    return [segment for segment in merged if segment.probability >= threshold]


def _join(parts: Sequence[Segment], video: EncodedVideo, classes: Sequence[str]) -> Segment:
    sizes = [part.stop_frame - part.start_frame for part in parts]
    scores = np.average([part.scores for part in parts], axis=0, weights=sizes)
    start, stop = parts[0].start_frame, parts[-1].stop_frame
    return make_segment(video, start, stop, scores.astype(np.float32), classes)
