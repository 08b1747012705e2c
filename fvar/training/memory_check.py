"""A check before a training starts: do the activations fit into memory where autograd keeps them all?"""

import copy

import torch

from fvar.errors import ConfigError
from fvar.model.activation_cache import TapeMeter
from fvar.model.interface import Representations, Sweep
from fvar.model.recognizer import Recognizer
from fvar.system import total_host_memory

_PROBED_FRAMES = (2, 4)  # a batch norm that trains needs two values


def check_memory(
    recognizer: Recognizer, sweep: Sweep, *, size: int, num_frames: int, device: torch.device
) -> None:
    """Refuse a training by the plain engine whose largest batch needs more memory than the device has.

    Args:
        recognizer: On `device`, in training mode.
        sweep: How the training goes over the frames.
        size: Side of the pictures, px.
        num_frames: Largest number of frames that one process gets in a step.
        device: Where the training runs.

    Raises:
        ConfigError: The activations alone take more than the device's memory.
    """
    frame_bytes = bytes_per_frame(recognizer, sweep, size=size, device=device)
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else total_host_memory()
    if frame_bytes * num_frames <= total:
        return
    raise ConfigError(
        "engine plain",
        f"keeps every activation: a batch of {num_frames} frames needs "
        f"{frame_bytes * num_frames / 1e9:.0f} GB, {device} has {total / 1e9:.0f} GB",
        fix="set norm = 'frozen' in --config to train in chunks, or lower --frames-per-batch (to "
        f"{total // frame_bytes} at most) or --size",
    )


def bytes_per_frame(
    recognizer: Recognizer, sweep: Sweep, *, size: int, device: torch.device
) -> int:
    """Return the bytes that autograd keeps per frame, of the stem, and of the trunk without clusters."""
    few, more = (
        _tape_bytes(recognizer, sweep, count, size=size, device=device) for count in _PROBED_FRAMES
    )
    # The difference, because folded weights are on the tape too, once for all frames.
    return (more - few) // (_PROBED_FRAMES[1] - _PROBED_FRAMES[0])


def _tape_bytes(
    recognizer: Recognizer, sweep: Sweep, num_frames: int, *, size: int, device: torch.device
) -> int:
    probe = copy.deepcopy(recognizer)  # a forward pass moves the statistics of a norm that trains
    pictures = torch.zeros(num_frames, 3, size, size, device=device)
    meter = TapeMeter(apart_from=list(probe.parameters()))
    with meter.running():
        frames = probe.backbone.stem(pictures)
        if sweep.clustering is None:
            probe.classify(Representations(frames, (num_frames,), None, None, 0))
    return meter.num_bytes
