"""``fvar export``: flags -> settings -> programs that run without fvar -> summary."""

from pathlib import Path
from typing import Annotated, Any

from cli.console import ConsoleReporter, print_summary
from cli.options import Overwrite, Training, flags_of, out_option
from fvar.config import ExportConfig
from fvar.settings import parse
from fvar.store.files import inside


@flags_of(ExportConfig, {"Model": ["checkpoint"]})
def export(
    train: Training,
    out: Annotated[Path | None, out_option("export in the training")] = None,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Write a training as ONNX files and torch.export programs that run without fvar.

    Beside them: recognize.py, which needs numpy alone and says how to run them,
    settings.json, and a model card. Needs the packages onnx and onnxscript.

    [bold]Examples[/bold]

    fvar export runs/ucf/train --out runs/ucf/model
    """
    settings = parse(ExportConfig, flags, source="command line")
    out_dir = out or inside(train, "export")

    from fvar.stages import export as stage

    manifest = stage.export(train, out_dir, settings, ConsoleReporter(), overwrite=overwrite)
    megabytes = sum(output.num_bytes for output in manifest.outputs) / 1e6
    figures: dict[str, object] = {
        "checkpoint": manifest.summary.checkpoint,
        "clustering": manifest.summary.clustering,
        "size": f"{megabytes:.1f} MB",
    }
    print_summary("export", figures, wrote=out_dir, then=["fvar", "verify", out_dir])
