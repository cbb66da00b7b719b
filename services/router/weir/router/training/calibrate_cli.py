"""`weir router calibrate`: a classifier's probabilities fitted to the user's own labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weir.router.training.console import fail, note, read_rows
from weir.router.training.evaluate_cli import Artifact, Data, Strong, Weak, load

if TYPE_CHECKING:
    from weir.router.training.recalibration import Recalibration


def calibrate(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the new artifact; not that of the old one.")],
    artifact: Artifact = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    weak: Weak = None,
    strong: Strong = None,
) -> None:
    """Fit a classifier's probabilities to your own labels, feedback included, and leave its weights alone."""
    from weir.router.classifier.artifact import PACKAGED
    from weir.router.training import duplicates, evaluation, recalibration

    source = artifact or PACKAGED
    if out.resolve() == source.resolve():
        fail("--out has to be another folder than the artifact's.")
    found = read_rows(data, weak, strong)
    rows = duplicates.deduplicated(found.where(found.knows_weak))
    rows = rows.where(rows.knows_weak)
    for line in rows.notes:
        note(line)
    classifier = load(artifact)
    try:
        said = evaluation.predict(classifier, rows)
        made = recalibration.recalibrate(said.complexity, rows, classifier.metadata.calibration)
        metadata = recalibration.write(made, classifier.metadata, source, out)
    except recalibration.UnfitLabelsError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{out} cannot be written ({error.strerror}).")
    _print(made, metadata.revision, out, as_json=as_json)


def _print(made: Recalibration, revision: str, out: Path, *, as_json: bool) -> None:
    if as_json:
        figures = {"revision": revision, "rows": made.rows, "before": made.before, "after": made.after}
        typer.echo(json.dumps(figures, indent=2))
        return
    for name in made.before:
        typer.echo(f"{name}: {made.before[name]:.4f} before, {made.after[name]:.4f} after (cross-fitted)")
    typer.echo(f"revision {revision} in {out}, fitted on {made.rows} rows")
