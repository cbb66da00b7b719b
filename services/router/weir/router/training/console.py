"""What the training commands share: reading labels, speaking on stderr, leaving with a clear message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from weir.router.training.dataset import Dataset


def read_rows(path: Path, weak: list[str] | None = None, strong: list[str] | None = None) -> Dataset:
    """Read labeled prompts (see ``dataset.read``), or say what is wrong with them and leave with status 1."""
    from weir.router.training import dataset
    from weir.router.training.labels import Roles

    try:
        return dataset.read(path, Roles(tuple(weak or ()), tuple(strong or ())))
    except dataset.DatasetError as error:
        fail(str(error))


def note(what: str) -> None:
    """Say something on stderr, so that stdout holds the result alone."""
    typer.echo(what, err=True)


def fail(message: str) -> NoReturn:
    """Say why on stderr and leave with status 1."""
    note(message)
    raise typer.Exit(1)
