"""What a recogniser says of videos, one at a time, spread over the processes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fvar.config import PrecisionName, TrainConfig
from fvar.loading.dataset import FrameBatch, StoredVideo, VideoDataset, View, load_batches
from fvar.model.interface import Sweep
from fvar.model.recognizer import Inference, Recognizer
from fvar.reporting import Progress
from fvar.training.distributed import Team, autocast
from fvar.training.inputs import testing_view
from fvar.training.metrics import Prediction


def infer_videos(
    recognizer: Recognizer,
    sweep: Sweep,
    dataset: VideoDataset,
    view: View,
    *,
    team: Team,
    precision: PrecisionName,
    workers: int,
    with_steps: bool,
) -> Iterator[tuple[FrameBatch, Inference]]:
    """Yield every video of `dataset` as a batch of one, with what the recogniser says of it.

    In the precision of the training, so that patterns and boundaries are those it saw. The recogniser is in
    evaluation mode while this runs and in its former mode afterwards.
    """
    was_training = recognizer.training
    recognizer.eval()
    try:
        for batch in load_batches(
            dataset, [[(0, at)] for at in range(len(dataset))], workers=workers
        ):
            (clip,) = batch.clips(view, device=team.device)
            with autocast(precision, team.device):
                inference = recognizer.infer(clip, sweep, with_steps=with_steps)
            yield batch, inference
    finally:
        recognizer.train(was_training)


def predict(
    recognizer: Recognizer,
    sweep: Sweep,
    folder: Path,
    videos: Sequence[StoredVideo],
    *,
    config: TrainConfig,
    team: Team,
    workers: int,
    progress: Progress,
) -> list[Prediction]:
    """Return a prediction for every video, in order, in every process."""
    view = testing_view(config)
    dataset = VideoDataset(folder, team.share(videos), view)
    inferred = infer_videos(
        recognizer,
        sweep,
        dataset,
        view,
        team=team,
        precision=config.precision,
        workers=workers,
        with_steps=False,
    )
    mine = []
    for batch, inference in inferred:
        mine.append(Prediction(batch.ids[0], int(batch.labels[0]), inference.logits))
        progress.advance(team.world_size)
    shares = team.gather(mine)
    return [shares[at % team.world_size][at // team.world_size] for at in range(len(videos))]
