"""What a process holds, and what it says of itself on its metrics page."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from weir.cli.verification.installation import Running

SESSIONS = "weir_engine_sessions"
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


async def open_sessions(running: Running) -> int:
    """Return the sessions that a service's engine has open; 0, too, before it opened any."""
    text = await asyncio.to_thread(_page, f"http://{running.metrics}/metrics")
    families = text_string_to_metric_families(text)
    found = [sample for family in families for sample in family.samples if sample.name == SESSIONS]
    return round(sum(sample.value for sample in found))


def resident_mib(pid: int) -> float:
    """Return the memory of a process and of all that it started, in MiB (Linux's /proc)."""
    process = Path("/proc") / str(pid)
    own = int((process / "statm").read_text().split()[1]) * _PAGE / 2**20
    children = [
        int(child)
        for thread in (process / "task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return own + sum(map(resident_mib, children))


def _page(url: str) -> str:
    # Straight to this machine, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as response:
        text: str = response.read().decode()
    return text
