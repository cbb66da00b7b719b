"""`weir router evaluate`: what a classifier is worth on labeled prompts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from weir.router.training.console import fail, note, read_rows

if TYPE_CHECKING:
    from weir.router.classifier.model import Classifier
    from weir.router.training.dataset import Dataset
    from weir.router.training.evaluation import Predictions, Row
    from weir.router.training.report import Report

Data = Annotated[
    Path, typer.Option("--data", help="JSON lines: prompt, source, domain, weak_correct, strong_correct.")
]
Artifact = Annotated[Path | None, typer.Option(help="Artifact folder; the packaged one by default.")]
Weak = Annotated[
    list[str] | None, typer.Option("--weak", help="Name of the weak model, where the lines name models.")
]
Strong = Annotated[list[str] | None, typer.Option("--strong", help="Name of the strong model, likewise.")]


def evaluate(
    data: Data,
    artifact: Artifact = None,
    train: Annotated[
        Path | None, typer.Option(help="What it was trained on: for the domains' means, and unseen domains.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG to write: the curves, and the reliability.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    samples: Annotated[
        int, typer.Option(min=0, help="Bootstrap resamples behind each interval; 0 for none.")
    ] = 1000,
    tolerate: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of wrong answers tolerated among those that stay.")
    ] = 0.1,
    weak: Weak = None,
    strong: Strong = None,
) -> None:
    """Measure a classifier as RouteLLM does, with intervals, beside what needs no classifier."""
    from weir.router.training import evaluation, report
    from weir.router.training.bootstrap import Resampling

    rows = read_rows(data, weak, strong)
    known = read_rows(train, weak, strong) if train else None
    if plot is not None:
        _check_plot(plot)
    rows = _usable(rows, known)
    classifier = load(artifact)
    rows = _said_of_training(rows, classifier)
    setting = report.Setting(
        revision=classifier.revision,
        train=known,
        seen=set(known.subjects.tolist()) if known else classifier.metadata.data.domains or None,
        unseen=_left_out(classifier),
        tolerated=tolerate,
        resampling=Resampling(samples),
    )
    found = evaluation.predict(classifier, rows)
    made = report.report(found, rows, setting)
    if plot is not None:
        _draw(plot, found, rows, made, known)
    _print(made, as_json=as_json)


def load(artifact: Path | None) -> Classifier:
    """Open an artifact, or say why not and leave with status 1."""
    from weir.common.errors import WeirError
    from weir.router.classifier.model import Classifier

    try:
        return Classifier.load(artifact)
    except WeirError as error:
        fail(error.hint)


def _usable(rows: Dataset, train: Dataset | None) -> Dataset:
    """Keep the rows that can be measured; say what stands twice and what was trained on."""
    from weir.router.training import duplicates

    whole = rows.complete
    if not whole.rows:
        fail(f"{rows.name} has no row of which both models' outcomes are known; nothing can be measured.")
    if left := len(rows.rows) - len(whole.rows):
        whole = whole.noted(f"{rows.name}: left out {left} rows of which one model's outcome is unknown")
    if repeated := len(whole.rows) - len(set(map(duplicates.prompt_key, whole.prompts))):
        whole = whole.noted(f"{rows.name}: {repeated} rows repeat a prompt; each is measured")
    if train and (leaked := int(duplicates.leaked(whole.prompts, train.prompts).sum())):
        whole = whole.noted(
            f"{rows.name}: {leaked} prompts were trained on ({train.name}), so that the figures flatter"
        )
    return whole


def _said_of_training(rows: Dataset, classifier: Classifier) -> Dataset:
    facts = classifier.metadata.data
    if rows.sha256 != facts.sha256:
        return rows
    return rows.noted(f"{rows.name} is the very file that this classifier was trained on")


def _left_out(classifier: Classifier) -> Row | None:
    """Return what training measured on domains that it left out, as its artifact tells."""
    found = classifier.metadata.metrics
    return next((row for name, row in found.items() if name.startswith("unseen") and "rows" in row), None)


def _check_plot(path: Path) -> None:
    """Leave before the work is done where the picture could not be drawn or written."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        fail("--plot needs matplotlib: install the extra with `pip install 'weir[train]'`.")
    if path.suffix.lower() != ".png":
        fail(f"--plot writes a PNG, so its name has to end in .png, which {path.name} does not.")
    if not path.parent.is_dir():
        fail(f"--plot: the folder {path.parent} does not exist.")


def _draw(path: Path, found: Predictions, rows: Dataset, made: Report, train: Dataset | None) -> None:
    from weir.router.training import plots

    try:
        plots.draw(path, found, rows, made, train)
    except OSError as error:
        fail(f"{path} cannot be written ({error.strerror}).")
    note(f"drawn in {path}")


def _print(made: Report, *, as_json: bool) -> None:
    import msgspec

    from weir.router.training import tables

    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(made), indent=2).decode())
    else:
        tables.show(made)
    for line in made.notes:
        note(line)
