"""`weir router train --trunk` and `weir router export`: the 1B class on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from weir.router.training.console import fail, note, read_rows
from weir.router.training.trunk.plan import PRECISIONS, Plan, Precision, TrunkError, Tuning
from weir.router.training.trunk.requirements import EXPORTING, FINE_TUNING, MissingPackageError, require

if TYPE_CHECKING:
    from weir.router.classifier.artifact import ArtifactMetadata

_SHOWN = ("rows", "apgr", "auroc", "ece")
Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True)
class Facts:
    """What the artifact is to say of its labels and of the trunk."""

    weak_model: str
    strong_model: str
    data_license: str
    trunk_license: str


def train_trunk(
    trunk: Path,
    data: tuple[Path, Path | None],
    tuning: Tuning,
    precision: Precision,
    folders: tuple[Path, Path | None],
    facts: Facts,
) -> None:
    """Fine-tune on (training, validation) files and write (artifact, master), or leave with status 1."""
    need((*EXPORTING, *FINE_TUNING), "finetune")
    train, validation = data
    if validation is None:
        fail("Fine-tuning stops early by rows that it does not train on: give them with --validation.")
    from weir.router.training.trunk import pipeline

    plan = Plan(
        trunk=trunk,
        train=read_rows(train),
        validation=read_rows(validation),
        tuning=tuning,
        precision=precision,
        weak_model=facts.weak_model,
        strong_model=facts.strong_model,
        data_license=facts.data_license,
        trunk_license=facts.trunk_license,
    )
    try:
        metadata = pipeline.train(plan, folders[0], folders[1], note)
    except (TrunkError, ValueError) as error:
        fail(str(error))
    show(metadata, folders[0])


def export(
    artifact: Annotated[Path, typer.Option(help="An artifact in fp32, as --master keeps it.")],
    out: Annotated[Path, typer.Option(help="Folder for the new artifact; not that of the old one.")],
    precision: Annotated[str, typer.Option(help=f"One of {', '.join(PRECISIONS)}.")] = "int8",
    data: Annotated[Path | None, typer.Option(help="Labeled prompts to measure both on.")] = None,
) -> None:
    """Write a classifier of the 1B class in another precision."""
    need(EXPORTING, "train")
    from weir.router.training.trunk import export as exporting

    wanted = chosen("--precision", precision, PRECISIONS)
    try:
        metadata = exporting.export(artifact, wanted, out, read_rows(data) if data else None)
    except TrunkError as error:
        fail(str(error))
    show(metadata, out)


def chosen(option: str, given: str, known: tuple[Choice, ...]) -> Choice:
    """Return the choice that ``given`` names, or leave with status 1."""
    if given not in known:
        fail(f"{option}: '{given}' is none of {', '.join(known)}.")
    return known[known.index(given)]


def need(names: tuple[str, ...], extra: str) -> None:
    """Leave with status 1 and the command that installs what is missing."""
    try:
        require(names, extra)
    except MissingPackageError as error:
        fail(str(error))


def show(metadata: ArtifactMetadata, out: Path) -> None:
    """Print the revision and the figures of each row that was measured."""
    for name, row in metadata.metrics.items():
        figures = "  ".join(f"{key} {row[key]:.3f}" for key in _SHOWN if key in row)
        typer.echo(f"{name}: {figures}")
    typer.echo(f"revision {metadata.revision} in {out}")
