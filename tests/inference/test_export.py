"""``fvar export``: the same boundaries and logits from onnxruntime and numpy alone."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from fvar.config import ExportConfig, VerifyConfig
from fvar.errors import ConfigError
from fvar.inference import exported
from fvar.inference.model import Model
from fvar.loading.transforms import Framing, center_framing
from fvar.model.clustering import Measured, cluster
from fvar.names import clustering_names
from fvar.reporting import SilentReporter
from fvar.stages.export import export
from fvar.stages.verify import verify

# In a process of its own: what is not numpy or onnxruntime cannot be imported.
SCRIPT = """
import sys
for name in ("torch", "fvar", "PIL", "cv2", "av"):
    sys.modules[name] = None
import json
import numpy as np
import onnxruntime
from recognize import recognize

settings = json.load(open("settings.json"))
stem, trunk = (onnxruntime.InferenceSession(f"{name}.onnx") for name in ("stem", "trunk"))
for name in sys.argv[1:]:
    logits, boundaries = recognize(
        np.load(name),
        lambda pictures: stem.run(None, {"pictures": pictures})[0],
        lambda rows: trunk.run(None, {"rows": rows})[0],
        settings,
    )
    np.savez(name + ".found", logits=logits, boundaries=boundaries)
"""


def _pictures(model: Model, video: Path) -> np.ndarray:
    """Return the stored pictures of a video, (T, H, W, 3)."""
    _, decoded = model.decode(video)
    assert decoded.video is not None
    frames = range(decoded.video.num_frames)
    path = video.with_suffix(".jpg")
    pictures = []
    for frame in frames:
        path.write_bytes(decoded.video.frame(frame))
        pictures.append(np.asarray(Image.open(path)))
    return np.stack(pictures)


@pytest.mark.slow
def test_onnx_and_numpy_give_the_same(
    chain: Path, model: Model, clip: Path, tmp_path: Path
) -> None:
    """Of videos with more, as many and fewer frames than clusters; the folder verifies."""
    result = CliRunner().invoke(app, ["export", str(chain / "train"), "--out", str(tmp_path / "x")])
    assert result.exit_code == 0, result.output
    assert verify(tmp_path / "x", VerifyConfig(workers=1), SilentReporter()).faults == ()
    (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
    pictures = _pictures(model, tmp_path / "clip.mp4")
    given = {f"{n}.npy": np.tile(pictures, (n // 12 + 1, 1, 1, 1))[:n] for n in (1, 3, 4, 12, 40)}
    for name, frames in given.items():
        np.save(tmp_path / "x" / name, frames)
    subprocess.run(
        [sys.executable, "-c", SCRIPT, *given], cwd=tmp_path / "x", check=True, timeout=200
    )
    view = model._view
    for name, frames in given.items():
        found = np.load(tmp_path / "x" / f"{name}.found.npz")
        height, width = frames.shape[1:3]
        framing = center_framing(height, width, fraction=view.crop_fraction)
        seen = _Pictures(frames, framing, view.size)
        expected = model.run.recognizer.infer(seen, model.run.sweep)  # type: ignore[arg-type]
        assert found["boundaries"][-1] == len(frames)
        if len(frames) >= 4:
            assert found["boundaries"].tolist() == expected.boundaries.tolist()
        np.testing.assert_allclose(found["logits"], expected.each_logits, atol=1e-4)
    programs = {
        name: torch.export.load(tmp_path / "x" / f"{name}.pt2") for name in ("stem", "trunk")
    }
    run = {name: program.module() for name, program in programs.items()}
    logits, _ = exported.recognize(
        given["40.npy"],
        lambda x: run["stem"](torch.from_numpy(x)).detach().numpy(),
        lambda x: run["trunk"](torch.from_numpy(x)).detach().numpy(),
        json.loads((tmp_path / "x" / "settings.json").read_text()),
    )
    found = np.load(tmp_path / "x" / "40.npy.found.npz")
    np.testing.assert_allclose(logits, found["logits"], atol=1e-4)
    card = (tmp_path / "x" / "MODEL_CARD.md").read_text()
    for words in (
        "tiny, 4 classes",
        "- left",
        "12 videos, 2 epochs",
        "all parameters were trained on these",
    ):
        assert words in card


class _Pictures:
    """A clip of pictures as they are."""

    def __init__(self, frames: np.ndarray, framing: Framing, size: int) -> None:
        self.num_frames, self.cut_key = len(frames), 0
        x = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)
        self._seen = framing.finish(framing.crop(x, size=size))

    def pictures(self, frames: range) -> torch.Tensor:
        return self._seen[frames[0] : frames[-1] + 1]


@pytest.mark.parametrize("name", exported.CLUSTERINGS)
@pytest.mark.parametrize("shape", [(6, 7, 7), (4, 5, 8), (300, 3, 3)])
def test_cuts_are_those_of_the_model(name: str, shape: tuple[int, ...]) -> None:
    """Numpy and torch cut random walks, rectified noise and still videos at the same frames."""
    draw = np.random.default_rng(0)
    for length in (1, 2, 5, 8, 9, 70):
        noise = draw.standard_normal((length, *shape)).astype(np.float32)
        for x in (np.cumsum(noise, axis=0), np.maximum(noise, 0), np.ones_like(noise)):
            measured = Measured(distances=True, descriptors=True)
            measured.add(0, torch.from_numpy(x))
            needed = measured.needed_by(name, device=torch.device("cpu"))
            for k in (1, 2, 5, 8):
                if length < k:
                    continue
                clusters = cluster(name, needed, torch.tensor([length]), num_clusters=k)
                measure, cut = exported.CLUSTERINGS[name]
                assert cut(measure(x), k).tolist() == clusters.starts[0].tolist()[1:]


@pytest.mark.parametrize(
    ("side", "share", "size"), [(97, 1.0, 64), (64, 0.875, 112), (128, 0.875, 112)]
)
def test_preprocessing_is_that_of_the_training(side: int, share: float, size: int) -> None:
    """Crops are resized to the same bytes and normalized to the same numbers."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, side, side + 30, 3), dtype=np.uint8)
    framing = center_framing(side, side + 30, fraction=share)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    expected = framing.finish(framing.crop(x, size=size)).numpy()
    settings = {"size": size, "crop_share": share, "mean": [0.485, 0.456, 0.406]}
    found = exported.preprocess(pictures, settings | {"std": [0.229, 0.224, 0.225]})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_every_clustering_but_random_is_exported() -> None:
    """A new clustering must be added to the exported code, or be named here."""
    assert set(clustering_names()) - set(exported.CLUSTERINGS) == {"random"}


def test_what_cannot_be_exported_is_refused(
    chain: Path, train_toy: Callable[[Path, str], Path], tmp_path: Path
) -> None:
    """Sampled frames are not in the exported code, and a missing package is named."""
    run = train_toy(tmp_path / "uniform", "uniform")
    with pytest.raises(ConfigError, match="--clustering uniform, which cannot be exported"):
        export(run, tmp_path / "out", ExportConfig(), SilentReporter())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "onnx", None)
        with pytest.raises(ConfigError, match="is not installed; pip install onnx onnxscript"):
            export(chain / "train", tmp_path / "out", ExportConfig(), SilentReporter())
    assert not (tmp_path / "out").exists()
