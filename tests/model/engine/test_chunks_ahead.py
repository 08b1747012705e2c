"""Pictures made ahead of the stem: the same results and errors, a few chunks early, by threads that end."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
import torch
from engine_steps import (
    ENGINES,
    PLENTY,
    Step,
    make_recognizer,
    make_sweep,
    take_step,
)
from processes import wait_until
from tensor_clips import TensorClip, random_clips, settled_backbone
from torch import Tensor
from training_samples import sample_clip, sample_pictures

from fvar.errors import FrameStoreError
from fvar.loading.clip import EncodedClip
from fvar.model.interface import Engine, Sweep
from fvar.model.recognizer import Recognizer

BOTH_ENGINES = pytest.mark.parametrize("engine", ENGINES)
OUTPUTS = 12 * 32 * 8 * 8 * 4  # bytes of tiny's stem outputs for 12 sample pictures of 32 px
CHUNK = 2  # frames
SECONDS = 20  # after which a thread that waits for another gives up


@contextmanager
def _fails(kind: type[Exception], match: str | None = None) -> Iterator[None]:
    """Expect an error, and no thread that outlives it while its traceback holds every frame."""
    with pytest.raises(kind, match=match) as error:
        yield
    assert error.tb is not None
    assert [t.name for t in threading.enumerate() if t.name.startswith("pictures")] == []


def _tiny() -> Recognizer:
    return make_recognizer(settled_backbone("tiny", dtype=torch.float32))


def _sweep(engine: Engine = "chunked", *, ahead: int = 2, keep: int = 0) -> Sweep:
    return replace(make_sweep(engine=engine, chunk=CHUNK, keep=keep), chunks_ahead=ahead)


def _encoded_clips() -> list[EncodedClip]:
    """Return videos of 7, 1 and 4 frames in JPEG."""
    return [
        sample_clip(name, sample_pictures(name, n)) for name, n in (("a", 7), ("b", 1), ("c", 4))
    ]


def _assert_same_bits(found: Step, wanted: Step) -> None:
    assert torch.equal(found.logits, wanted.logits)
    assert found.gradients.keys() == wanted.gradients.keys()
    assert all(torch.equal(found.gradients[key], g) for key, g in wanted.gradients.items())


@pytest.mark.parametrize(
    ("engine", "keep", "trains_norm"),
    [
        ("chunked", 0, False),
        ("chunked", OUTPUTS, False),
        ("chunked", PLENTY, False),
        ("plain", 0, False),
        ("plain", 0, True),
    ],
)
def test_results_are_the_same_to_the_bit(engine: Engine, keep: int, *, trains_norm: bool) -> None:
    """However many chunks ahead JPEG pictures are decoded, logits and gradients are the same."""
    steps = []
    for ahead in (0, 1, 5):
        recognizer = _tiny()
        recognizer.backbone.network.bn1.train(trains_norm)
        steps.append(
            take_step(recognizer, _encoded_clips(), _sweep(engine, ahead=ahead, keep=keep))
        )
    for step in steps[1:]:
        _assert_same_bits(step, steps[0])


@pytest.mark.parametrize(("keep", "sweeps"), [(0, 3), (10 * 32 * 4 * 4 * 4, 2), (PLENTY, 1)])
def test_what_is_kept_is_not_decoded_ahead(keep: int, sweeps: int) -> None:
    """As often as without threads each chunk is asked for; kept outputs save one sweep, kept tapes two."""
    (clip,) = random_clips([10], dtype=torch.float32)
    take_step(_tiny(), [clip], _sweep(keep=keep))
    assert sorted(clip.requests) == sorted([(t, t + 1) for t in range(0, 10, 2)] * sweeps)


class _Stem:
    """A folded stem that calls `before` each time, before it runs."""

    def __init__(self, recognizer: Recognizer, before: Callable[[], None]) -> None:
        self._stem, self._before = recognizer.backbone.folded_stem, before
        recognizer.backbone.folded_stem = self

    def weights(self) -> tuple[Tensor, ...]:
        return self._stem.weights()

    def __call__(self, pictures: Tensor, weights: Sequence[Tensor]) -> Tensor:
        self._before()
        return self._stem(pictures, weights)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_some_chunks_are_made_ahead_and_no_more(ahead: int) -> None:
    """While the stem works on a chunk, the next ones are made, also of the next videos, and none after."""
    clips, counts = random_clips([5, 1, 6], dtype=torch.float32), list[int]()
    num_chunks = 3 + 1 + 3

    def made() -> int:
        return sum(len(clip.requests) for clip in clips)

    def before() -> None:
        wait_until(lambda: made() >= min(len(counts) + 1 + ahead, num_chunks), seconds=SECONDS)
        counts.append(made())

    recognizer = _tiny()
    _Stem(recognizer, before)
    with torch.no_grad():
        recognizer(clips, replace(_sweep(ahead=ahead), clustering="even"))
    assert counts == [min(at + 1 + ahead, num_chunks) for at in range(num_chunks)]


@dataclass(frozen=True)
class _FailingClip(TensorClip):
    """A video in which chunks from `first_bad` on fail, and the first of them after the others."""

    first_bad: int = 0
    later_failed: threading.Event = field(default_factory=threading.Event)

    def pictures(self, frames: Sequence[int]) -> Tensor:
        if frames[0] > self.first_bad:
            self.later_failed.set()
        elif frames[0] == self.first_bad:
            self.later_failed.wait(SECONDS)
        if frames[0] >= self.first_bad:
            raise RuntimeError(f"frame {frames[0]} is damaged")
        return super().pictures(frames)


@BOTH_ENGINES
def test_the_first_error_in_order_is_raised_when_it_is_due(engine: Engine) -> None:
    """The stem runs on all chunks before a damaged one, whose error is raised, not that of a later one."""
    (good,) = random_clips([10], dtype=torch.float32)
    bad, runs = _FailingClip(good.frames, first_bad=4), list[int]()
    recognizer = _tiny()
    _Stem(recognizer, lambda: runs.append(1))
    recognizer.backbone.network.conv1.register_forward_pre_hook(lambda *_: runs.append(1))
    with _fails(RuntimeError, "frame 4 is damaged"):
        recognizer([bad], _sweep(engine))
    assert len(runs) == 4 // CHUNK
    assert bad.later_failed.is_set()


@BOTH_ENGINES
def test_a_damaged_picture_is_named_as_without_threads(engine: Engine) -> None:
    """The message for a picture that is no JPEG is the same, with video and frames."""
    clips, messages = _encoded_clips(), []
    pictures = sample_pictures("bad", 5)
    pictures[3] = b"not a picture"
    clips.insert(1, sample_clip("bad", pictures))
    for ahead in (0, 1, 5):
        with pytest.raises(FrameStoreError, match="video 'bad': frames 2 to 3") as error:
            _tiny()(clips, _sweep(engine, ahead=ahead))
        messages.append(str(error.value))
    assert len(set(messages)) == 1


def _fail(*_: object) -> Tensor:
    raise MemoryError


@BOTH_ENGINES
def test_threads_end_when_the_stem_fails(engine: Engine) -> None:
    """An error of the stem comes through and ends the threads."""
    recognizer, clips = _tiny(), random_clips([20], dtype=torch.float32)
    _Stem(recognizer, _fail)
    recognizer.backbone.network.conv1.register_forward_pre_hook(_fail)
    with _fails(MemoryError):
        recognizer(clips, _sweep(engine))


def test_threads_end_when_a_sweep_fails() -> None:
    """Errors of an aggregator and of the backward pass come through and end the threads."""
    recognizer, clips = _tiny(), random_clips([20], dtype=torch.float32)
    with _fails(MemoryError):
        recognizer(clips, replace(_sweep(), aggregator=_fail))
    loss = recognizer(clips, _sweep()).sum()
    recognizer.backbone.folded_stem.shape.register_forward_pre_hook(_fail)
    with _fails(MemoryError):
        loss.backward()
