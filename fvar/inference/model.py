"""A finished training as a function from videos to answers."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fvar.config import FrameSettings
from fvar.errors import VideoError
from fvar.extraction.decode import Decoded, Decoder
from fvar.extraction.ffmpeg import DecodeSettings, find_ffmpeg
from fvar.extraction.probe.pool import ProbePool
from fvar.extraction.shards import missing
from fvar.fields import DeviceName
from fvar.inference.arrays import ArrayFeeder
from fvar.inference.prediction import Prediction, Segment, make_prediction, make_segment
from fvar.inference.windows import outputs_of_spans, window_spans
from fvar.loading.clip import EncodedClip
from fvar.loading.dataset import StoredVideo, make_clip
from fvar.loading.view import View, evaluation_view
from fvar.model.engine import represent_outputs
from fvar.model.recognizer import Inference
from fvar.processes import taken_ahead
from fvar.store.encoded_video import EncodedVideo
from fvar.store.frame_store import VideoHeader
from fvar.system import usable_processors
from fvar.training.distributed import autocast, join_world
from fvar.training.representer import Representer
from fvar.training.trained_run import TrainedRun, open_trained_run

Pictures = npt.NDArray[np.uint8] | Iterable[npt.NDArray[np.uint8]]
"""Pictures (T, H, W, 3) or one by one (H, W, 3): red, green, blue, 0..255."""

_AHEAD = 4  # videos decoded before they are needed; each takes at most 16 MB of memory


class Model:
    """A trained recognizer that predicts videos: it decodes and sees them as training did.

    The processes that look into video files run until `close`, or until Python ends. A model is also a
    context manager.

    Attributes:
        run: The training.
        classes: Names of the classes.
        frame_settings: How videos become frames.
    """

    def __init__(self, run: TrainedRun, frame_settings: FrameSettings, *, workers: int) -> None:
        """Make a model of an opened training.

        Args:
            run: The training.
            frame_settings: Those of the extraction that it was trained on.
            workers: Number of videos decoded at the same time.
        """
        self.run, self.classes, self.frame_settings = run, run.classes, frame_settings
        self._workers, self._probes = workers, ProbePool()
        settings = frame_settings.model_dump()
        threads = max(1, usable_processors() // workers)
        self._decoder = Decoder(
            find_ffmpeg(), DecodeSettings(**settings, threads=threads), self._probes
        )
        self._view = evaluation_view(run.config)
        self._device = next(run.recognizer.parameters()).device
        clusters = run.sweep.clustering is not None
        sweep = replace(run.sweep, with_steps=clusters)  # for filmstrips
        self._representer = Representer(run.recognizer.backbone, sweep, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that look into video files."""
        self._probes.__exit__()

    def predict(
        self, video: str | Path | Pictures, *, fps: float = 25.0, allow_partial: bool = False
    ) -> Prediction:
        """Return the answer for one video.

        Args:
            video: A video file, a folder of numbered pictures, or pictures, which go through the same
                scaling and JPEG as those of a file.
            fps: Of pictures: how many are shown in a second.
            allow_partial: Also answer for a file of which frames are missing.

        Raises:
            VideoError: The video cannot be read, or frames are missing and `allow_partial` is off.
        """
        name, decoded = self.decode(video, fps=fps)
        if decoded.video is None or (decoded.status == "partial" and not allow_partial):
            fix = "pass allow_partial" if decoded.video is not None else "give another video"
            raise VideoError(f"video {name}", f"{decoded.status}: {decoded.reason}", fix=fix)
        return self.answer(name, decoded.video, decoded)

    def features(
        self, video: str | Path | Pictures, *, fps: float = 25.0, allow_partial: bool = False
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the features of each cluster (R, F) and their mean (F,); arguments as of `predict`."""
        found = self.predict(video, fps=fps, allow_partial=allow_partial)
        return found.features, found.pooled_features

    def decode(self, video: str | Path | Pictures, *, fps: float = 25.0) -> tuple[str, Decoded]:
        """Return the name of a video and its frames, with a verdict on whether all are there."""
        if isinstance(video, str | Path):
            path = Path(video).expanduser()
            return str(video), self._decode_path(path)
        feeder = ArrayFeeder(video, fps=fps)
        decoded = self._decoder.decode_fed(feeder.input())
        if feeder.problem is not None:
            raise feeder.problem
        return "pictures", decoded

    def decode_each(self, paths: Sequence[Path]) -> Iterator[tuple[Path, Decoded]]:
        """Yield the frames of each file, in order, and decode the next ones meanwhile."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            try:
                submitted = (pool.submit(self._decode_path, path) for path in paths)
                ahead = taken_ahead(submitted, self._workers + _AHEAD)
                for path, future in zip(paths, ahead, strict=True):
                    yield path, future.result()
            except BaseException:
                self._probes.running.stop()
                pool.shutdown(cancel_futures=True)
                raise

    def answer(self, name: str, video: EncodedVideo, decoded: Decoded) -> Prediction:
        """Return the answer for the frames of a video."""
        clip = self.clip(name, video)
        sampled = self._view.sampled_frames(video.num_frames, epoch=0, video_id=name)
        return make_prediction(
            name,
            video,
            self.infer(clip),
            self.classes,
            sampled=sampled,
            status=decoded.status,
            reason=decoded.reason,
            note=decoded.note,
        )

    def clip(self, name: str, video: EncodedVideo) -> EncodedClip:
        """Return a video as the network gets it in an evaluation."""
        return self._clip(name, video, self._view)

    def _clip(self, name: str, video: EncodedVideo, view: View) -> EncodedClip:
        stored = StoredVideo(name, "", 0, video.num_frames)
        header = VideoHeader(video.height, video.width, "")
        return make_clip(stored, header, lambda: video, view, epoch=0, device=self._device)

    def windows(
        self, name: str, video: EncodedVideo, *, seconds: float, hop_seconds: float
    ) -> list[Segment]:
        """Return what windows of a video show, each clustered for itself; the stem sees each frame once.

        The stem's outputs for the frames of one window are in memory.

        Args:
            name: Of the video.
            video: Its frames.
            seconds: Length of a window.
            hop_seconds: From the start of a window to that of the next.
        """
        view = replace(self._view, num_samples=None)
        clip, sampling = self._clip(name, video, view), self._view
        spans = window_spans(video, seconds=seconds, hop_seconds=hop_seconds)
        found = []
        with torch.no_grad(), autocast(self.run.config.precision, self._device):
            outputs = outputs_of_spans(self._stem_outputs(clip), spans)
            for (start, stop), of_window in zip(spans, outputs, strict=True):
                frames = sampling.sampled_frames(stop - start, epoch=0, video_id=name)
                given = of_window if frames is None else of_window[frames]
                seen = represent_outputs([given], self.run.sweep, [clip.cut_key])
                inference = self.run.recognizer.infer_from(seen, num_frames=len(given))
                scores = inference.logits.softmax(0).numpy()
                found.append(make_segment(video, start, stop, scores, self.classes))
        return found

    def _stem_outputs(self, clip: EncodedClip) -> Iterator[Tensor]:
        """Yield what the stem makes of all frames, chunk by chunk."""
        stem, chunk = self.run.recognizer.backbone.folded_stem, self.run.sweep.chunk_frames
        weights = stem.weights()
        for start in range(0, clip.num_frames, chunk):
            frames = range(start, min(start + chunk, clip.num_frames))
            yield stem(clip.pictures(frames), weights)

    def infer(self, clip: EncodedClip) -> Inference:
        """Run the network on a clip, as an evaluation does."""
        with autocast(self.run.config.precision, self._device):
            seen = self._representer([clip])
            return self.run.recognizer.infer_from(seen, num_frames=clip.num_frames)

    def _decode_path(self, path: Path) -> Decoded:
        if not path.exists():
            return Decoded("failed", missing(path).removeprefix(f"{path} "))
        (decoded,) = self._decoder.decode(path.resolve())
        return decoded

    def __repr__(self) -> str:
        config = self.run.config
        return (
            f"Model({self.run.path.parent}, {config.backbone}, {config.clustering} to "
            f"{config.clusters}, {len(self.classes)} classes)"
        )


def load_model(
    train: Path,
    *,
    checkpoint: str | None = None,
    device: DeviceName = "auto",
    workers: int | None = None,
) -> Model:
    """Open a training for predictions.

    Args:
        train: Folder or manifest that `fvar train` wrote.
        checkpoint: best, last or a file; None takes best where there is one, else last.
        device: Where the network runs.
        workers: Number of videos decoded at the same time; None: one per processor.

    Raises:
        ManifestError: A file is missing or changed, or the settings of its extraction are not known.
    """
    with join_world(device) as world:
        run = open_trained_run(train, checkpoint=checkpoint, world=world)
    return Model(run, run.frame_settings(), workers=workers or usable_processors())
