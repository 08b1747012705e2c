"""Inference on videos, one at a time, spread over the processes."""

from collections.abc import Iterator, Sequence

from fvar.fields import PrecisionName
from fvar.loading.batch import load_batches
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import VideoDataset
from fvar.model.recognizer import Inference, Recognizer
from fvar.reporting import Progress
from fvar.training.distributed import World, autocast
from fvar.training.metrics import Prediction
from fvar.training.representer import Representer


def infer_clips(
    recognizer: Recognizer,
    representer: Representer,
    dataset: VideoDataset,
    positions: Sequence[int],
    *,
    precision: PrecisionName,
    workers: int,
) -> Iterator[tuple[EncodedClip, Inference]]:
    """Yield the clips at `positions` of `dataset`, each with what the recognizer computed for it.

    In the precision of the training, so that patterns and boundaries are those it saw. The recognizer is in
    evaluation mode while this runs and in its former mode afterwards.
    """
    was_training = recognizer.training
    recognizer.eval()
    try:
        for (clip,) in load_batches(dataset, [[(0, at)] for at in positions], workers=workers):
            with autocast(precision, clip.device):
                seen = representer([clip])
                inference = recognizer.infer_from(seen, num_frames=clip.num_frames)
            yield clip, inference
    finally:
        recognizer.train(was_training)


def predict(
    recognizer: Recognizer,
    representer: Representer,
    dataset: VideoDataset,
    *,
    world: World,
    precision: PrecisionName,
    workers: int,
    progress: Progress,
) -> list[Prediction]:
    """Return a prediction for every video of `dataset`, in order, in every process."""
    mine = []
    for clip, inference in infer_clips(
        recognizer,
        representer,
        dataset,
        range(world.rank, len(dataset), world.world_size),
        precision=precision,
        workers=workers,
    ):
        mine.append(Prediction(clip.id, clip.label, inference.logits))
        progress.advance(world.world_size)
    parts = world.gather(mine)
    return [parts[at % world.world_size][at // world.world_size] for at in range(len(dataset))]
