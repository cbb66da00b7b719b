"""The services' log lines, made readable on one console."""

from __future__ import annotations

import json
from typing import Any

from rich.text import Text

from weir.common.conventions import HOUSEKEEPING

COLORS = {"router": "blue", "slm_worker": "green", "verifier": "magenta", "frontier_proxy": "yellow"}
WIDTH = max(map(len, COLORS))
LOUD = {"warning": "yellow", "error": "red", "critical": "bold red"}
# Shown in their own place, or of no use to a reader who has the trace page.
_OWN_PLACE = {"event", "level", "timestamp", "trace_id", "exception", "service"}


def is_loud(line: str) -> bool:
    """Whether a line is a warning or worse; lines that are no records count as such."""
    record = _parse(line)
    return record is None or record.get("level") in LOUD


def is_routine(line: str) -> bool:
    """Whether a line only says that the services keep asking each other how they are."""
    record = _parse(line) or {}
    is_fine = record.get("event") == "rpc" and record.get("status") == "OK"
    return is_fine and record.get("method") in HOUSEKEEPING


def format_line(name: str, line: str) -> Text:
    """Return a line with the service's name before it; JSON records become event and key=value pairs."""
    record = _parse(line)
    text = Text(f"{name:<{WIDTH}} ", style=COLORS.get(name, ""))
    if record is None:
        return text.append(printable(line), style="default")
    clock = str(record.get("timestamp", ""))[11:19]
    level = str(record.get("level", ""))
    text.append(f"{printable(clock):<8} ", style="dim")
    text.append(printable(str(record["event"])), style=LOUD.get(level, "default"))
    for key, value in record.items():
        if key not in _OWN_PLACE and value is not None:
            text.append(f" {printable(key)}=", style="dim").append(printable(_plain(value)), style="default")
    if "exception" in record:
        text.append("\n" + printable(str(record["exception"])), style="dim")
    return text


def printable(text: str) -> str:
    """Return the text without control characters, so that nothing in it can steer a terminal."""
    return "".join(c for c in text if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f"))


def _parse(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
