"""The chunked engine as anyone could write it: `torch.utils.checkpoint` over chunks of frames.

A pass without a tape finds the boundaries. Then each chunk adds its frames to the cluster means under a
checkpoint, which runs the chunk again in the backward pass. So each frame is decoded three times and goes
through the stem three times, and nothing is kept from one time to the next.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from fvar.model.averaging import mean
from fvar.model.clustering import cluster, flatten_frames, sign_pattern, step_distances
from fvar.model.interface import Clip, Representations, Sweep
from fvar.model.recognizer import Recognizer
from fvar.system import return_grown_memory


def checkpointed_logits(network: Recognizer, clip: Clip, sweep: Sweep) -> Tensor:
    """Return the logits of one video, (1, num_classes)."""
    num_frames, size = clip.num_frames, sweep.chunk_frames
    chunks = [range(at, min(at + size, num_frames)) for at in range(0, num_frames, size)]

    def stem(chunk: Sequence[int]) -> Tensor:
        return_grown_memory()  # as in the engine: free memory goes back to the system
        return network.backbone.stem(clip.pictures(chunk))

    steps, last = list[Tensor](), None
    with torch.no_grad():
        for chunk in chunks:
            pattern = sign_pattern(stem(chunk))
            steps.append(step_distances(pattern if last is None else torch.cat([last, pattern])))
            last = pattern[-1:].clone()
        lengths = torch.tensor([num_frames])
        closed = pad(torch.cat(steps), (0, 1))
        clusters = cluster("cumulative", closed, lengths, num_clusters=sweep.num_clusters)

    def part(_anchor: Tensor, chunk: Sequence[int]) -> Tensor:
        output = stem(chunk)
        frames = torch.tensor(chunk)
        matrix = mean(clusters.starts[0], clusters.stops[0], frames, output.dtype)
        _, channels, height, width = output.shape
        product = (matrix @ flatten_frames(output)).view(-1, height, width, channels)
        return product.permute(0, 3, 1, 2)

    # A reentrant checkpoint needs an input with a gradient. The other kind keeps 2.6 MB per frame here.
    anchor = torch.zeros(1, requires_grad=True)
    means = checkpoint(part, anchor, chunks[0], use_reentrant=True)
    for chunk in chunks[1:]:
        means = means + checkpoint(part, anchor, chunk, use_reentrant=True)
    return network.classify(Representations(means, (sweep.num_clusters,), None, None, 0))
