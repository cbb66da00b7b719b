"""The name of the policy in force: a hash of all settings that decide."""

from __future__ import annotations

import hashlib
import json

from weir.common.config import Settings

_LENGTH = 12


def policy_revision(settings: Settings) -> str:
    """Return twelve hexadecimal digits that change whenever a setting of the choice does."""
    decides = {
        "routing": settings.routing.model_dump(mode="json"),
        "tiers": settings.tiers.model_dump(mode="json"),
    }
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
