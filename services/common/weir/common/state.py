"""Where databases that outlive a restart are kept."""

from __future__ import annotations

import os
from pathlib import Path

from weir.common.config.model import State


def state_directory(settings: State) -> Path:
    """Return the configured folder, else the user's state folder (XDG Base Directory Specification)."""
    if settings.directory:
        return settings.directory.expanduser()
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state") / "weir"
