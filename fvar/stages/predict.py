"""Prediction: a trained recognizer and video files -> what they show, and when."""

import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from fvar.config import PredictConfig
from fvar.extraction.decode import Decoded
from fvar.inference.answers import Answer, Answers, AnswerWriter
from fvar.inference.model import Model, load_model
from fvar.inference.videos import find_videos
from fvar.inference.windows import merge_windows
from fvar.reporting import Reporter
from fvar.store.encoded_video import EncodedVideo
from fvar.store.manifest import TimelinesManifest, TimelinesSummary
from fvar.store.manifest_file import check_out, write_manifest
from fvar.store.provenance import input_file, output_file, tool_versions

_PACKAGES = ("torch", "torchcodec", "numpy", "av", "imageio-ffmpeg")
_QUARTER = 4  # of a window: the usual hop


def predict(
    train: Path,
    videos: Iterable[Path],
    out_dir: Path | None,
    config: PredictConfig,
    reporter: Reporter,
    *,
    overwrite: bool = False,
) -> Answers:
    """Predict videos that were neither extracted nor labelled.

    A video that cannot be read, or of which frames are missing, is an answer with that status.

    Args:
        train: Folder or manifest that `fvar train` wrote.
        videos: Files, folders and lists, as `fvar.inference.videos.find_videos` takes them.
        out_dir: Gets the tables and the manifest; None writes nothing.
        config: The settings.
        reporter: Receives the progress.
        overwrite: Replace complete predictions in `out_dir`.

    Raises:
        InputError: The training, a list or a folder cannot be used; nothing was written.
        StoppedError: The disk is full; a rerun starts again.
    """
    if out_dir is not None:
        check_out(out_dir, TimelinesManifest, overwrite=overwrite, made_from=train)
    paths = find_videos(videos)
    with load_model(
        train, checkpoint=config.checkpoint, device=config.device, workers=config.workers
    ) as model:
        started = time.perf_counter()
        answers = Answers(model.classes)
        with ExitStack() as stack:
            writer = None if out_dir is None else AnswerWriter(out_dir, config, model.classes)
            write = None if writer is None else stack.enter_context(writer)
            progress = stack.enter_context(
                reporter.progress("predict", total=len(paths), unit="videos")
            )
            for path, decoded in model.decode_each(paths):
                answer = _answer(model, path, decoded, config)
                answers.videos.append(answer)
                if write is not None:
                    write.add(answer, decoded.video)
                progress.advance(note=path.name)
        if out_dir is not None and write is not None:
            _finish(out_dir, model, config, answers, write.names, time.perf_counter() - started)
    return answers


def _answer(model: Model, path: Path, decoded: Decoded, config: PredictConfig) -> Answer:
    video = decoded.video
    if video is None or (decoded.status == "partial" and not config.allow_partial):
        return Answer(path, decoded.status, decoded.reason, decoded.note)
    if config.windows is not None:
        return _slide(model, path, decoded, video, config, config.windows)
    found = model.answer(str(path), video, decoded)
    return Answer(
        path,
        *(found.status, found.reason, found.note, found.label, found.probability),
        scores=found.scores.tolist(),
        num_frames=found.num_frames,
        seconds=found.duration_seconds,
        parts=found.segments,
    )


def _slide(
    model: Model,
    path: Path,
    decoded: Decoded,
    video: EncodedVideo,
    config: PredictConfig,
    seconds: float,
) -> Answer:
    """Answer by windows; the label of the video is that of its most probable window."""
    hop = config.hop or seconds / _QUARTER
    windows = model.windows(str(path), video, seconds=seconds, hop_seconds=hop)
    best = max(windows, key=lambda window: window.probability)
    return Answer(
        path,
        *(decoded.status, decoded.reason, decoded.note, best.label, best.probability),
        scores=best.scores.tolist(),
        num_frames=video.num_frames,
        seconds=windows[-1].stop_seconds - windows[0].start_seconds,
        parts=windows,
        segments=merge_windows(windows, video, model.classes, threshold=config.threshold),
    )


def _finish(
    out_dir: Path,
    model: Model,
    config: PredictConfig,
    answers: Answers,
    names: Sequence[str],
    seconds: float,
) -> None:
    """Write the manifest that completes the folder."""
    counts = answers.counts
    manifest = TimelinesManifest(
        versions=tool_versions(_PACKAGES),
        classes=list(model.classes),
        inputs=[input_file(out_dir, path) for path in (model.run.path, model.run.checkpoint)],
        outputs=[output_file(out_dir, name) for name in names],
        config=config,
        summary=TimelinesSummary(
            num_videos=len(answers.videos),
            ok=counts["ok"],
            partial=counts["partial"],
            failed=counts["failed"],
            frames=sum(answer.num_frames for answer in answers.videos),
            checkpoint=model.run.checkpoint_name,
            seconds=seconds,
        ),
    )
    write_manifest(out_dir, manifest)
