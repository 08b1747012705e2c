"""Recognize an action with an exported fvar training: numpy, and something that runs the two networks.

With onnxruntime, for example, in the folder of the export::

    import json, onnxruntime
    from recognize import recognize

    settings = json.load(open("settings.json"))
    stem, trunk = (onnxruntime.InferenceSession(f"{name}.onnx") for name in ("stem", "trunk"))
    logits, boundaries = recognize(
        frames,  # all frames of a video, uint8 (T, H, W, 3), RGB, the shorter side settings["short_side"]
        lambda pictures: stem.run(None, {"pictures": pictures})[0],
        lambda rows: trunk.run(None, {"rows": rows})[0],
        settings,
    )
    print(settings["classes"][logits.mean(axis=0).argmax()])

Letters: T frames, n frames of a chunk, K clusters, C classes or channels, S side of the seen square, px.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
CHUNK = 8  # frames in memory at once


def recognize(
    frames: Array,
    stem: Callable[[Array], Array],
    trunk: Callable[[Array], Array],
    settings: Mapping[str, Any],
) -> tuple[Array, Array]:
    """Return the logits of each cluster, whose mean is the video's, and the first frames of the clusters.

    Args:
        frames: (T, H, W, 3) uint8, or anything whose slices are such arrays.
        stem: (n, 3, S, S) float32 -> (n, C, H', W').
        trunk: The means of the clusters (K, C, H', W') -> (K, C).
        settings: What `settings.json` holds.

    Returns:
        (K, C), and (K + 1,): where each cluster begins, then T.
    """
    length, k = len(frames), settings["clusters"]
    chunks = [(at, min(at + CHUNK, length)) for at in range(0, length, CHUNK)]
    starts = np.arange(k) * length // k
    stops = starts + 1  # a video of fewer frames shows each alone, some repeatedly
    if length >= k:
        measure, cut = CLUSTERINGS[settings["clustering"]]
        seen = (stem(preprocess(frames[a:b], settings)) for a, b in chunks)
        starts[1:] = cut(np.concatenate([measure(x) for x in seen]), k)
        stops = np.append(starts[1:], length)
    sums = [0.0] * k
    for a, b in chunks:  # seen again, so that memory does not grow with the video
        x = stem(preprocess(frames[a:b], settings))
        for j in np.flatnonzero((starts < b) & (stops > a)):
            part = x[max(starts[j] - a, 0) : stops[j] - a]
            sums[j] = sums[j] + part.sum(axis=0) / (stops[j] - starts[j])
    return trunk(np.stack(sums).astype(np.float32)), np.append(starts, length)


def preprocess(pictures: Array, settings: Mapping[str, Any]) -> Array:
    """Crop, resize and normalize as in training: (n, H, W, 3) uint8 -> (n, 3, S, S) float32."""
    height, width, size = *pictures.shape[1:3], settings["size"]
    side = max(1, round(min(height, width) * settings["crop_share"]))
    top, left = (height - side) // 2, (width - side) // 2
    x = pictures[:, top : top + side, left : left + side].transpose(0, 3, 1, 2)
    for axis in (3, 2) if side != size else ():
        weights, bits = _resize_weights(side, size)
        total = np.moveaxis(np.tensordot(x.astype(np.int64), weights, axes=(axis, 1)), -1, axis)
        x = np.clip((total + (1 << bits >> 1)) >> bits, 0, 255)
    mean, std = (np.array(settings[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    mean, std = mean * 255, std * 255
    return np.asarray((x.astype(np.float32) - mean) / std)


def _resize_weights(side: int, size: int) -> tuple[Array, int]:
    """Return the weights of a bilinear, antialiased resize in units of 1 / 2**bits: (size, side), bits."""
    scale = side / size
    support, weights = max(scale, 1.0), np.zeros((size, side))
    for row in range(size):
        center = scale * (row + 0.5)
        first, last = max(int(center - support + 0.5), 0), min(int(center + support + 0.5), side)
        distances = np.abs(np.arange(first, last) - center + 0.5) / support
        weights[row, first:last] = np.clip(1 - distances, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    bits = 0
    while bits < 21 and int(0.5 + weights.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    return np.floor(weights * (1 << bits) + 0.5).astype(np.int64), bits


def sign_patterns(x: Array) -> Array:
    """Return which activations are above zero: (n, C, H, W) -> (n, C*H*W) bool."""
    return np.asarray(x.reshape(len(x), -1) > 0)


def descriptors(x: Array) -> Array:
    """Return the mean of each channel in 4 x 4 cells (fewer where there are many channels), float16."""
    channels, height, width = x.shape[1:]
    cells = next(g for g in (4, 2, 1) if g * g * channels <= 16384 or g == 1)
    spans = [
        [(i * n // cells, -(-(i + 1) * n // cells)) for i in range(cells)] for n in (height, width)
    ]
    parts = [x[:, :, a:b, c:d].mean(axis=(2, 3)) for a, b in spans[0] for c, d in spans[1]]
    return np.nan_to_num(np.stack(parts, axis=2).reshape(len(x), -1).astype(np.float16))


def even(measured: Array, k: int) -> Array:
    """Return cuts into equal lengths: (K-1,)."""
    return np.arange(1, k) * len(measured) // k


def cumulative(patterns: Array, k: int) -> Array:
    """Return where the change so far passes equal parts of the whole."""
    return _shares((patterns[1:] != patterns[:-1]).sum(axis=1), k)


def slope(patterns: Array, k: int) -> Array:
    """Return the places of the largest steps."""
    steps = (patterns[1:] != patterns[:-1]).sum(axis=1)
    largest = np.sort(np.argsort(-steps, kind="stable")[: k - 1]) + 1
    return largest if steps.any() else even(patterns, k)


def windowed(frames: Array, k: int) -> Array:
    """Return where the change between short windows, above that of the quiet steps, passes equal parts."""
    length, cut = len(frames), np.arange(1, len(frames))
    if length < 2:
        return cut
    first, last = np.maximum(cut - 4, 0), np.minimum(cut + 4, length)
    sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames.astype(float), axis=0)])
    change = np.sqrt(
        _gains(sums[cut] - sums[first], cut - first, sums[last] - sums[cut], last - cut)
    )
    above = np.maximum(change - 1.5 * np.sort(change)[int(0.25 * (len(change) - 1))], 0)
    return _shares(np.rint(above * (2**24 / max(above.max(), 1e-30))).astype(np.int64), k)


def variance(frames: Array, k: int) -> Array:
    """Return the cuts of greedy splitting, each where the squared distance to the means falls most."""
    if not (frames != frames[0]).any():
        return even(frames, k)

    def best(a: int, b: int) -> tuple[float, int]:
        if b - a == 1:
            return -1.0, b
        sums, n = np.cumsum(frames[a:b].astype(float), axis=0), np.arange(1, b - a)
        gains = _gains(sums[:-1], n, sums[-1] - sums[:-1], b - a - n)
        return float(gains.max()), a + int(gains.argmax()) + 1

    parts = [(0, len(frames), *best(0, len(frames)))]
    for _ in range(k - 1):
        at = max(range(len(parts)), key=lambda i: (parts[i][2], -i))
        a, b, _gain, cut = parts[at]
        parts[at : at + 1] = [(a, cut, *best(a, cut)), (cut, b, *best(cut, b))]
    return np.array([part[0] for part in parts[1:]])


def _gains(left: Array, num_left: Array, right: Array, num_right: Array) -> Array:
    gap = left * num_right[:, None] - right * num_left[:, None]
    return np.asarray((gap**2).sum(axis=1) / (num_left * num_right * (num_left + num_right)))


def _shares(steps: Array, k: int) -> Array:
    """Return the cuts at equal parts of the sum of steps, at least a frame apart."""
    length, so_far, rank = len(steps) + 1, np.append(0, np.cumsum(steps)), np.arange(1, k)
    if so_far[-1] == 0:
        return rank * length // k
    raw = np.searchsorted(so_far, rank * so_far[-1] // k, side="right")
    apart = np.maximum.accumulate(raw - rank) + rank
    return np.minimum(np.maximum(apart, rank), length - k + rank)


CLUSTERINGS = {
    "windowed": (descriptors, windowed),
    "variance": (descriptors, variance),
    "cumulative": (sign_patterns, cumulative),
    "slope": (sign_patterns, slope),
    "even": (sign_patterns, even),
}
