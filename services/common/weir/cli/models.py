"""`weir models`: the model store on the command line, and models made from others."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from weir.common.config import ConfigError, Settings, load_settings
from weir.common.errors import ErrorCode, WeirError
from weir.models.configured import configured_models
from weir.models.store import ModelStore, State

if TYPE_CHECKING:
    from weir.models.widening import Width

models_app = typer.Typer(
    help="Fetch, list and check models, and make stand-ins from them.", no_args_is_help=True
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", envvar="WEIR_CONFIG", help="Configuration file (YAML).")
]
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Models; those configured where none is named."),
]


@models_app.command()
def pull(names: NamesArgument = None, config: ConfigOption = None) -> None:
    """Fetch models that are missing or damaged."""
    with _errors_shown() as console:
        settings, store = _open(config)
        for name in names or configured_models(settings, store.manifest):
            with download_progress(console) as report:
                resolved = asyncio.run(store.pull(name, report))
            console.print(f"[green]ready[/] {name}  {resolved.path}", soft_wrap=True)


@models_app.command("list")
def list_models(config: ConfigOption = None) -> None:
    """Show all known models and whether they are on this machine."""
    with _errors_shown():
        _, store = _open(config)
        table = Table("id", "size", "license", "state", "sources", box=None, pad_edge=False)
        for item in store.states():
            color = "green" if item.state is State.READY else "yellow"
            sources = "\n".join(map(str, item.spec.sources))
            size = f"{item.spec.size / 1e6:,.0f} MB"
            table.add_row(item.model_id, size, item.spec.license, f"[{color}]{item.state}[/]", sources)
        Console().print(table)


@models_app.command()
def verify(names: NamesArgument = None, config: ConfigOption = None) -> None:
    """Hash the models' files anew and compare; exits with 1 where something is missing or damaged."""
    with _errors_shown() as console:
        settings, store = _open(config)
        bad = [
            name
            for name in names or configured_models(settings, store.manifest)
            if not _report_states(console, name, asyncio.run(store.verify(name)))
        ]
    if bad:
        console.print(f"Run `weir models pull {' '.join(bad)}` to fetch what is missing or damaged.")
        raise typer.Exit(1)


ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="One of the store, a GGUF file or a Hugging Face folder.")
]
NoiseOption = Annotated[
    float,
    typer.Option(min=0, max=1, help="Relative noise on the weights, so that both models agree less often."),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the noise.")]


@models_app.command()
def widen(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="The GGUF file (.gguf) or Hugging Face folder to write.")],
    hidden: Annotated[int, typer.Option(help="Size of the hidden state.")] = 1536,
    intermediate: Annotated[int, typer.Option(help="Size of the feed-forward layer.")] = 6144,
    heads: Annotated[int, typer.Option(help="Attention heads.")] = 24,
    kv_heads: Annotated[int, typer.Option(help="Key-value heads.")] = 8,
    noise: NoiseOption = 0.0,
    seed: SeedOption = 0,
    config: ConfigOption = None,
) -> None:
    """Make a Llama-type model bigger with zeros: it computes the same at the cost of a bigger one.

    For measuring speed only: the model that comes out is no better than the one that went in. A GGUF file
    is made from a GGUF file, in the same quantization.
    """
    if noise and out.suffix != ".gguf":
        raise typer.BadParameter("noise is put on a GGUF file's weights; let --out end in .gguf")
    with _models_made(model) as console:
        from weir.models.widening import Width

        source, width = _files_of(model, config), Width(hidden, intermediate, heads, kv_heads)
        if out.suffix == ".gguf":
            count = _stand_in(source, out, width, noise, seed)
        else:
            count = _widened_folder(source, out, width)
        console.print(f"[green]ready[/] {out}  {count / 1e9:.2f} B parameters", soft_wrap=True)


@models_app.command()
def blur(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="The GGUF file to write.")],
    noise: NoiseOption,
    seed: SeedOption = 0,
    config: ConfigOption = None,
) -> None:
    """Put noise on a GGUF model's weights, for measuring how verification fares where models disagree."""
    with _models_made(model) as console:
        _stand_in(_files_of(model, config), out, None, noise, seed)
        console.print(f"[green]ready[/] {out}", soft_wrap=True)


@contextmanager
def _models_made(model: str) -> Iterator[Console]:
    """Turn what keeps a model from being made from another into a sentence and exit code 1."""
    try:
        with _errors_shown() as console:
            try:
                yield console
            except ConfigError:
                raise
            except ValueError as error:
                hint = f"{model} cannot be made into another model: {error}."
                raise WeirError(ErrorCode.UNSUPPORTED, hint) from None
    except ModuleNotFoundError as error:
        typer.secho(f"This needs {error.name}: pip install 'weir[cpu,train]'", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None


def _stand_in(source: Path, out: Path, width: Width | None, noise: float, seed: int) -> int:
    from weir.models.gguf_stand_in import Noise, write_stand_in

    if source.is_dir():
        raise ValueError("a GGUF file is made from a GGUF file, not from a folder")
    return write_stand_in(source, out, width, Noise(noise, seed))


def _widened_folder(source: Path, out: Path, width: Width) -> int:
    from weir.models.gguf_weights import read_gguf
    from weir.models.llama_folder import read_folder, write_folder
    from weir.models.widening import widen

    wide = widen(read_folder(source) if source.is_dir() else read_gguf(source), width)
    write_folder(wide, source, out)
    return sum(weight.size for weight in wide.weights.values())


def _files_of(model: str, config: Path | None) -> Path:
    if Path(model).exists():
        return Path(model)
    _, store = _open(config)
    # Before ``resolve``, which would let the embedded model stand in for an unknown one.
    store.state(model)
    return store.resolve(model).path


def _report_states(console: Console, name: str, states: dict[str, State]) -> bool:
    for file, state in states.items():
        color = "green" if state is State.READY else "red"
        console.print(f"[{color}]{state}[/] {name}/{file}", soft_wrap=True)
    return all(state is State.READY for state in states.values())


def _open(config: Path | None) -> tuple[Settings, ModelStore]:
    settings = load_settings(config, os.environ)
    return settings, ModelStore(settings.models)


@contextmanager
def _errors_shown() -> Iterator[Console]:
    """Turn an error that the user can mend into its sentence and exit code 1."""
    try:
        yield Console(stderr=True)
    except (ConfigError, WeirError) as error:
        message = error.hint if isinstance(error, WeirError) else str(error)
        typer.secho(message, fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from None


class _Reporter:
    """Shows the bytes of one step at a time."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label)
        self._bars.update(self._tasks[label], completed=done, total=total or None)


@contextmanager
def download_progress(console: Console) -> Iterator[_Reporter]:
    """Show progress bars on a terminal; the value is the callback for ``ModelStore.pull``."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield _Reporter(bars)
