"""The ``weir`` command. Each subcommand is imported when it is used, so that the start is quick."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
    from typer.core import TyperGroup
except ModuleNotFoundError:
    sys.exit("The command line comes with the server parts: pip install 'weir[server,cpu]'")

# Name, and the module and Typer application that it stands for.
COMMANDS = {
    "up": ("weir.cli.up", "up_app"),
    "ask": ("weir.cli.ask", "ask_app"),
    "models": ("weir.cli.models", "models_app"),
    "router": ("weir.router.cli", "router_app"),
    "spend": ("weir.cli.spend", "spend_app"),
    "receipts": ("weir.router.receipts.cli", "receipts_app"),
    "bench": ("weir.cli.bench", "bench_app"),
}


class LazyGroup(TyperGroup):
    """Finds subcommands in ``COMMANDS``, and turns errors that a user can mend into one sentence."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the subcommand."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command = typer.main.get_command(getattr(importlib.import_module(module), attribute))
        command.name = cmd_name
        return command

    def invoke(self, ctx: Any) -> Any:
        """Run, exiting with 2 for a bad configuration, 1 for a failure and 130 when interrupted."""
        from weir.common.config import ConfigError
        from weir.common.errors import WeirError
        from weir.common.errors.catalog import CATALOG

        try:
            return super().invoke(ctx)
        except ConfigError as error:
            sentence, code = str(error), 2
        except WeirError as error:
            sentence, code = error.hint or CATALOG[error.code].message, 1
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        typer.secho(f"weir: {sentence}", fg=typer.colors.RED, err=True)
        raise typer.Exit(code)


app = typer.Typer(
    cls=LazyGroup, name="weir", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def weir(
    config: Annotated[
        Path | None, typer.Option("--config", envvar="WEIR_CONFIG", help="Configuration file (YAML).")
    ] = None,
) -> None:
    """Answer each prompt with the cheapest model tier that will do it well."""
    if config is not None:
        # Subcommands, and the services that they start, read it from there.
        os.environ["WEIR_CONFIG"] = str(config.absolute())


if __name__ == "__main__":
    app(prog_name="weir")
