"""``--help``: every flag with its default, from the settings, in well under the time that torch takes."""

import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import fvar
from cli.main import app
from cli.options import flags_of
from fvar.config import (
    EvalConfig,
    ExportConfig,
    ExtractConfig,
    FeaturesConfig,
    InspectConfig,
    PredictConfig,
    ToyConfig,
    TrainConfig,
    VerifyConfig,
)
from fvar.fields import Flag
from fvar.settings import Settings

CONFIGS: dict[str, type[Settings]] = {
    "extract": ExtractConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "inspect-clusters": InspectConfig,
    "predict": PredictConfig,
    "features": FeaturesConfig,
    "export": ExportConfig,
    "verify": VerifyConfig,
    "toy": ToyConfig,
}
# What scripts rely on.
FLAGS = {
    "extract": """videos out short-side quality fps stride stretch workers max-gb reserve-gb time-limit
        keep-going strict follow-links video-stream dask ffmpeg dry-run update overwrite""",
    "train": """recipe config backbone weights clustering clusters stage size epochs batch-size lr
        frames-per-batch engine device workers seed freeze-stem train-stem allow-partial
        skip-incomplete resume overwrite
        out""",
    "eval": "split frames checkpoint device workers allow-partial skip-incomplete out overwrite",
    "inspect-clusters": """split limit nearest segments tolerance frames-csv json frames checkpoint
        device workers allow-partial out overwrite""",
    "predict": "windows hop threshold checkpoint allow-partial device workers out json overwrite",
    "features": "checkpoint allow-partial device workers out overwrite",
    "compare": "out overwrite",
    "doctor": "help",
    "export": "checkpoint out overwrite",
    "verify": "workers json",
    "toy": "out layout clips-per-class frames size informative step-px noise seed digits overwrite",
    "manifest folder": "out labels val test group-by seed overwrite",
    "manifest ucf101": "annotations split-number out videos only-present overwrite",
}


def _help(command: str) -> str:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "300"})
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("command", FLAGS)
def test_every_flag_is_there(command: str) -> None:
    """No flag that scripts rely on is missing, and there is an example to type."""
    text = _help(command)
    for name in FLAGS[command].split():
        assert f"--{name} " in text
    assert re.search(rf"\n +fvar {command}( |$)", text)


@pytest.mark.parametrize("command", CONFIGS)
def test_help_comes_from_the_settings(command: str) -> None:
    """A setting that is a flag has one line, with the description and the default of the settings."""
    lines, found = _help(command).splitlines(), 0
    for name, field in CONFIGS[command].model_fields.items():
        flag = next((m for m in field.metadata if isinstance(m, Flag)), Flag())
        typed = (flag.name or f"--{name.replace('_', '-')}").split("/")[0]
        shown = [line for line in lines if re.match(rf"│[ *]+{typed} ", line)]
        found += len(shown)
        default = "" if field.default is False else f"[default: {flag.default or field.default}]"
        default = "[required]" if field.is_required() else default
        assert all(f"{field.description} {default}".strip() in line for line in shown)
    assert found >= len(FLAGS[command].split()) // 2


def test_flags_left_out_are_not_settings() -> None:
    """A command gets the settings that were typed, zero and False too, and none that was not."""
    found = []

    @flags_of(TrainConfig, {"Any": ["epochs", "workers", "freeze_stem", "lr", "allow_partial"]})
    def command(**flags: object) -> None:
        found.append(flags)

    command(epochs=None, workers=0, freeze_stem=False, lr=0.1, allow_partial=None)
    assert found == [{"workers": 0, "freeze_stem": False, "lr": 0.1}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["", "'train', ", "'extract', ", "'manifest', ", "'verify', ", "'doctor', "]
)
def test_help_loads_no_torch(command: str) -> None:
    """Help appears without the seconds that importing torch takes."""
    code = (
        f"import sys; sys.argv = ['fvar', {command}'--help']\n"
        "from cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'torchvision', 'h5py', 'matplotlib', 'av'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_stages_load_no_compiler() -> None:
    """Stages start without torch's compiler and what imports it, which take longer than all the rest."""
    code = (
        "import sys\n"
        "from fvar.model.networks import cut_backbone\n"
        "from fvar.stages import evaluate, inspect_clusters, train\n"
        "for name in ('resnet18', 'mobilenet_v2', 'tiny'):\n    cut_backbone(name, stage=1)\n"
        "assert not {'torch._dynamo', 'sympy', 'torchvision'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_reader_that_ended_is_no_bug() -> None:
    """Help piped into a program that stops reading ends without a traceback."""
    command = [sys.executable, "-m", "cli", "toy", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_version_says_what_a_report_needs() -> None:
    """The version of fvar, Python, the system and the packages that do the work, without importing them."""
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"fvar {fvar.__version__} (python {sys.version.split()[0]}, ")
    for package in ("torch", "torchcodec", "av", "imageio-ffmpeg", "h5py", "numpy"):
        assert f", {package} " in result.stdout
