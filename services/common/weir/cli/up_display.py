"""What `weir up` shows: plain text where nobody looks at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from weir.cli.child import Child, ChildState
from weir.cli.log_lines import COLORS, format_line, is_loud, is_routine, printable
from weir.cli.ports import Endpoint
from weir.cli.services import traces_go_elsewhere
from weir.common.config import Settings


class Display:
    """Writes to one console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        # Until then only warnings are shown: a start that goes well needs no log.
        self._is_up = False

    def say(self, text: str) -> None:
        """Show a remark."""
        self.console.print(Text(text, style="dim"))

    def asked(self, prompt: str) -> None:
        """Show the prompt of the proof."""
        self.say(f"> {prompt}")

    def answer(self, text: str) -> None:
        """Show a part of its answer, as it comes."""
        self.console.print(Text(printable(text)), end="")

    def unanswered(self, message: str) -> None:
        """Show that the proof failed."""
        self.console.print(Text(f"The services are up but do not answer: {printable(message)}", style="red"))

    def table(self, children: Sequence[Child], endpoints: Mapping[str, Endpoint]) -> None:
        """Show the services, in the order in which a request meets them."""
        table = Table("service", "address", "pid", "health", box=None, pad_edge=False, header_style="dim")
        names = list(COLORS)
        for child in sorted(children, key=lambda child: names.index(child.spec.name)):
            name = child.spec.name
            cells = (Text(name, style=COLORS[name]), endpoints[name].target, str(child.pid))
            table.add_row(*cells, Text(child.state, style="green"))
        self.console.print(table)

    def serving(
        self, settings: Settings, endpoints: Mapping[str, Endpoint], page: str, seconds: float
    ) -> None:
        """Show where everything is; from now on the log is shown too."""
        router = endpoints["router"]
        self.console.print(
            Text.assemble(("Weir is serving", "bold"), f" on {router.target} ({seconds:.1f} s).")
        )
        where = (
            "as OTEL_EXPORTER_OTLP_ENDPOINT says, not on the local page" if traces_go_elsewhere() else page
        )
        self.console.print(Text(f"Traces: {where}"))
        self.console.print(Text(f"Spend:  {page}/spend"))
        target = "" if router.port == settings.services.router.port else f" --target {router.target}"
        self.console.print(Text(f'Try:    uv run weir ask{target} "Why is the sky blue?"'))
        self.say("Ctrl-C stops everything.")
        self._is_up = True

    def line(self, name: str, line: str) -> None:
        """Show a line of a service's log."""
        if is_loud(line) or (self._is_up and not is_routine(line)):
            self.console.print(format_line(name, line))

    def state(self, child: Child, text: str) -> None:
        """Show that a service is being restarted, and that it serves again."""
        if child.state is ChildState.RESTARTING:
            self.console.print(Text(f"{child.spec.name} {text}", style="yellow"))
        elif self._is_up and child.state is ChildState.SERVING:
            self.console.print(Text(f"{child.spec.name} is {text}", style="green"))

    def failure(self, child: Child) -> None:
        """Show which service was given up; its own last words were shown as they came."""
        self.console.print(Text(f"{child.spec.name} {child.reason}.", style="bold red"))
