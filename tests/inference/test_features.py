"""``fvar features``: what the network computes before its classifier, in HDF5."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import fvar
from cli.main import app
from fvar.errors import ManifestError
from fvar.inference.model import Model


def test_features_are_those_of_the_model(
    chain: Path, model: Model, clip: Path, samples: Path, tmp_path: Path
) -> None:
    """Rows, mean, frames and times of a video; of an unreadable one the reason alone, and exit code 1."""
    out = tmp_path / "features.h5"
    files = (clip, samples / "text.mp4")
    result = CliRunner().invoke(
        app, ["features", str(chain / "train"), *map(str, files), "--out", str(out)]
    )
    assert result.exit_code == 1, result.output
    assert "ok 1 partial 0 failed 1" in " ".join(result.stdout.split())
    found = model.predict(clip)
    with h5py.File(out) as file:
        assert (file.attrs["format"], file.attrs["version"]) == ("fvar.features", 1)
        assert (file.attrs["backbone"], file.attrs["num_videos"]) == ("tiny", 2)
        good, bad = (file[f"videos/0000000{number}"] for number in range(2))
        np.testing.assert_allclose(good["features"], found.features, rtol=1e-5)
        np.testing.assert_allclose(good["pooled"], found.features.mean(axis=0), rtol=1e-5)
        assert good["frames"][:, 0].tolist() == found.clusters.boundaries[:-1].tolist()  # type: ignore[union-attr]
        assert good["seconds"][-1, 1] == found.segments[-1].stop_seconds
        assert (good.attrs["path"], good.attrs["status"]) == (str(clip), "ok")
        assert (bad.attrs["status"], len(bad)) == ("failed", 0)
        assert "cannot be opened" in bad.attrs["reason"]


def test_a_file_is_not_replaced(chain: Path, clip: Path, tmp_path: Path) -> None:
    """Without `overwrite` the file stays as it is; a folder is never replaced."""
    out = tmp_path / "features.h5"
    out.write_text("mine")
    with pytest.raises(ManifestError, match="is a file already"):
        fvar.features(chain / "train", clip, out=out)
    assert out.read_text() == "mine"
    with pytest.raises(ManifestError, match="is a folder"):
        fvar.features(chain / "train", clip, out=tmp_path, overwrite=True)
    fvar.features(chain / "train", [clip], out=out, overwrite=True)
    with h5py.File(out) as file:
        assert file.attrs["num_videos"] == 1
