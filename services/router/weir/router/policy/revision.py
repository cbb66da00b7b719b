"""The name of the policy in force: a hash of all settings that decide."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from weir.common.config import Settings
from weir.common.config.tenancy import ALL_TENANTS

_LENGTH = 12


def policy_revision(settings: Settings) -> str:
    """Return twelve hexadecimal digits that change whenever a setting of the choice does."""
    decides: dict[str, Any] = {
        "routing": settings.routing.model_dump(mode="json"),
        "tiers": settings.tiers.model_dump(mode="json"),
    }
    residencies = {name: tenant.residency for name, tenant in settings.tenancy.tenants.items()}
    residencies[ALL_TENANTS] = settings.tenancy.default.residency
    if stated := {name: residency for name, residency in residencies.items() if residency}:
        decides["residencies"] = stated
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]
