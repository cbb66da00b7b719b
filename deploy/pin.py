"""Pins what is installed: `constraints.txt` with hashes, and the same versions in pyproject.toml for uv.

A lock file would record the address of whichever registry resolved it; these two name versions alone.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PYPROJECT = ROOT / "pyproject.toml"
BEGIN, END = "# pinned by deploy/pin.py: begin", "# pinned by deploy/pin.py: end"


def compile_constraints() -> None:
    """Resolve the server, CPU and development dependencies for every platform."""
    command = ["uv", "export", "--upgrade", "--no-emit-project", "--extra", "server", "--extra", "cpu"]
    flags = ["--no-header", "--no-annotate", "--quiet", "--output-file", str(CONSTRAINTS)]
    subprocess.run([*command, *flags], check=True, cwd=ROOT)  # noqa: S603


def pins(text: str) -> list[str]:
    """Return the `name==version ; marker` lines of a compiled file, without hashes."""
    found = re.findall(r"^([a-z0-9][a-z0-9._-]*==[^\s\\;]+(?: ; [^\\\n]+)?)", text, flags=re.MULTILINE)
    return [line.strip() for line in found]


def write_pins(lines: list[str]) -> None:
    """Put the versions between the two marks of pyproject.toml."""
    text = PYPROJECT.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    body = "".join(f'    "{line}",\n' for line in lines)
    pinned = f"\nconstraint-dependencies = [\n{body}]\n"
    PYPROJECT.write_text(text[:start] + pinned + text[end:], encoding="utf-8")


def main() -> None:
    """Resolve anew and write both."""
    write_pins([])
    CONSTRAINTS.unlink(missing_ok=True)
    compile_constraints()
    write_pins(pins(CONSTRAINTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
