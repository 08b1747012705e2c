"""Export: a trained recognizer -> programs that run without fvar."""

from pathlib import Path

from fvar.config import ExportConfig
from fvar.inference.export import NAMES, check_exportable, export_settings, write_export
from fvar.reporting import Reporter
from fvar.store.files import remove_outputs
from fvar.store.manifest import ExportManifest, ExportSummary, PredictionsManifest
from fvar.store.manifest_file import check_out, read_manifest, write_manifest
from fvar.store.provenance import input_file, output_file, tool_versions
from fvar.training.distributed import join_world
from fvar.training.trained_run import TrainedRun, open_trained_run

_PACKAGES = ("torch", "numpy", "onnx", "onnxscript")


def export(
    train: Path, out_dir: Path, config: ExportConfig, reporter: Reporter, *, overwrite: bool = False
) -> ExportManifest:
    """Write stem and trunk as ONNX and `torch.export` programs, code that runs them, and a model card.

    Raises:
        InputError: The training cannot be exported, or a package is missing; nothing was written.
        StoppedError: The disk is full; a rerun starts again.
    """
    check_out(out_dir, ExportManifest, overwrite=overwrite, made_from=train)
    with join_world("cpu") as world:
        run = open_trained_run(train, checkpoint=config.checkpoint, world=world)
    check_exportable(run)
    settings = export_settings(
        run, short_side=run.frame_settings().short_side, dataset=_dataset(run)
    )
    remove_outputs(out_dir, list(NAMES))
    reporter.info("exporting; torch takes half a minute")
    write_export(out_dir, run, settings, _results(run))
    manifest = ExportManifest(
        versions=tool_versions(_PACKAGES),
        classes=run.classes,
        inputs=[input_file(out_dir, path) for path in (run.path, run.checkpoint)],
        outputs=[output_file(out_dir, name) for name in NAMES],
        config=config,
        summary=ExportSummary(checkpoint=run.checkpoint_name, clustering=run.config.clustering),
    )
    write_manifest(out_dir, manifest)
    return manifest


def _dataset(run: TrainedRun) -> str:
    """Return what the training read, in words."""
    inputs = run.manifest.inputs
    return f"frames with the manifest {inputs[0].sha256[:16]}" if inputs else "unknown"


def _results(run: TrainedRun) -> list[str]:
    """Return the figures of the evaluations inside the training, in words."""
    found = []
    for path in sorted(run.path.parent.glob("eval-*/manifest.json")):
        summary = read_manifest(path, PredictionsManifest).summary
        found.append(
            f"split {summary.split}, {summary.labelled} videos, checkpoint {summary.checkpoint}: "
            f"top-1 {summary.top1:.1%}, mean class accuracy {summary.mean_class_accuracy:.1%}"
        )
    return found
