"""Features: a trained recognizer and video files -> what its network computes before the classifier."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fvar.config import FeaturesConfig
from fvar.errors import ManifestError
from fvar.inference.features_file import open_features
from fvar.inference.model import load_model
from fvar.inference.videos import find_videos
from fvar.reporting import Reporter
from fvar.store.hashing import sha256_of
from fvar.store.manifest import Status


def features(
    train: Path,
    videos: Iterable[Path],
    out: Path,
    config: FeaturesConfig,
    reporter: Reporter,
    *,
    overwrite: bool = False,
) -> Counter[Status]:
    """Write the features of each cluster and of each whole video; return how many videos have which status.

    Args:
        train: Folder or manifest that `fvar train` wrote.
        videos: Files, folders and lists, as `fvar.inference.videos.find_videos` takes them.
        out: The HDF5 file.
        config: The settings.
        reporter: Receives the progress.
        overwrite: Replace `out`.

    Raises:
        InputError: The training, a list or a folder cannot be used; nothing was written.
        StoppedError: The disk is full; a rerun starts again.
    """
    if out.is_dir() or (out.exists() and not overwrite):
        fix = "name a file" if out.is_dir() else "choose another --out or pass --overwrite"
        raise ManifestError(out, f"is a {'folder' if out.is_dir() else 'file already'}", fix=fix)
    paths, counts = find_videos(videos), Counter[Status]()
    with (
        load_model(
            train, checkpoint=config.checkpoint, device=config.device, workers=config.workers
        ) as model,
        open_features(
            out,
            backbone=model.run.config.backbone,
            checkpoint_sha256=sha256_of(model.run.checkpoint),
        ) as writer,
        reporter.progress("features", total=len(paths), unit="videos") as progress,
    ):
        for path, decoded in model.decode_each(paths):
            usable = decoded.status == "ok" or config.allow_partial
            found = None
            if decoded.video is not None and usable:
                found = model.answer(str(path), decoded.video, decoded)
            writer.add(path, decoded, found)
            counts[decoded.status] += 1
            progress.advance(note=path.name)
    return counts
