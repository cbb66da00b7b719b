"""compose.yaml and deploy/Dockerfile as data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
OURS = ("router", "slm-worker", "slm-worker-gpu", "verifier", "frontier-proxy")


def compose() -> dict[str, Any]:
    """The file with its anchors resolved."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return content


def environment(service: str) -> dict[str, str]:
    """What a container's environment is where the host sets no variable."""
    given = compose()["services"][service].get("environment", {})
    return {name: substituted(str(value)) for name, value in given.items() if value is not None}


def substituted(value: str) -> str:
    """Put in the defaults of ``${NAME:-default}``."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def module(service: str) -> str:
    """The module that a service runs, with dots; for the router ``weir.router``."""
    command: list[str] = compose()["services"][service]["command"]
    assert command[:2] == ["python", "-m"], command
    return command[2]


def dockerfile() -> list[str]:
    """Instructions, one a line, comments left out and continuations joined."""
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def stages() -> dict[str, list[str]]:
    """Instructions of each build stage by its name."""
    found: dict[str, list[str]] = {}
    for line in dockerfile():
        if start := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            found[start[2]] = []
        elif found:
            found[list(found)[-1]].append(line)
    return found
