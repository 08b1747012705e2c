"""Comparison: evaluations of the same videos -> which is better, by how much, and how sure that is."""

from collections.abc import Sequence
from pathlib import Path

from fvar.errors import ConfigError
from fvar.report.comparison import Compared, Evaluation, compare_evaluations
from fvar.report.comparison_page import (
    draw_comparison,
    write_comparison_csv,
    write_comparison_page,
    write_flips_csv,
)
from fvar.store.files import atomic_path, remove_outputs
from fvar.store.manifest import (
    CheckpointManifest,
    ComparisonManifest,
    ComparisonSummary,
    PredictionsManifest,
)
from fvar.store.manifest_file import check_out, locate, read_manifest, write_manifest
from fvar.store.predictions_file import read_predictions_csv
from fvar.store.provenance import check_files, input_file, output_file, tool_versions

TABLE, FLIPS, PLOT, PAGE = "comparison.csv", "flips.csv", "comparison.png", "index.html"
_PACKAGES = ("numpy", "matplotlib", "jinja2")


def compare(
    evaluations: Sequence[Path], out_dir: Path | None, *, overwrite: bool = False
) -> list[Compared]:
    """Compare evaluations with the first of them.

    Args:
        evaluations: Folders or manifests that `fvar eval` wrote, at least two.
        out_dir: Gets a table, the videos that flipped, a plot and a page; None writes nothing.
        overwrite: Replace a complete comparison in `out_dir`.

    Raises:
        InputError: An evaluation cannot be used, or they are of different videos; nothing was written.
        StoppedError: The disk is full.
    """
    if len(evaluations) < 2:
        raise ConfigError("compare", "gets one evaluation, needs at least two", fix="name two")
    if out_dir is not None:
        check_out(out_dir, ComparisonManifest, overwrite=overwrite)
    found = [_read(path) for path in evaluations]
    compared = compare_evaluations(found)
    if out_dir is not None:
        _write(out_dir, compared)
    return compared


def _read(evaluation: Path) -> Evaluation:
    path = locate(evaluation)
    manifest = read_manifest(path, PredictionsManifest)
    check_files(path, manifest, with_inputs=False)
    training = path.parent / manifest.inputs[0].path
    seconds = None
    if training.is_file():
        seconds = read_manifest(training, CheckpointManifest).summary.seconds
    return Evaluation(
        name=str(path.parent),
        path=path,
        summary=manifest.summary,
        predictions=read_predictions_csv(path.parent / "predictions.csv").labelled(),
        train_seconds=seconds,
    )


def _write(out_dir: Path, compared: Sequence[Compared]) -> None:
    """Write the outputs and the manifest that completes the folder."""
    outputs = [TABLE, FLIPS, PLOT, PAGE]
    remove_outputs(out_dir, outputs)
    write_comparison_csv(out_dir / TABLE, compared)
    write_flips_csv(out_dir / FLIPS, compared)
    plot = draw_comparison(compared)
    with atomic_path(out_dir / PLOT) as temporary:
        temporary.write_bytes(plot)
    write_comparison_page(out_dir / PAGE, compared, plot)
    manifest = ComparisonManifest(
        versions=tool_versions(_PACKAGES),
        classes=sorted(set(compared[0].evaluation.predictions.labels)),
        inputs=[input_file(out_dir, found.evaluation.path) for found in compared],
        outputs=[output_file(out_dir, name) for name in outputs],
        summary=ComparisonSummary(
            evaluations=len(compared), num_videos=len(compared[0].evaluation.predictions.ids)
        ),
    )
    write_manifest(out_dir, manifest)
