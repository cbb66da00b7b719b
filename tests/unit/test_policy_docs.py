"""The configuration that docs/policy.md shows loads and can be followed."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from weir.common.config import load_settings
from weir.common.config.routing import RuleCondition
from weir.router.engine import DecisionEngine
from weir.router.signals.personal_data import KINDS
from weir.router.training.subjects import group_of

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")


def test_example_loads_and_compiles(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 1
    file = tmp_path / "config.yaml"
    file.write_text(blocks[0], encoding="utf-8")
    settings = load_settings(file)
    assert len(settings.routing.rules) == len(yaml.safe_load(blocks[0])["routing"]["rules"])
    DecisionEngine(settings, domains={group_of("virology"), group_of("jurisprudence")})


def test_every_condition_and_kind_is_explained() -> None:
    assert all(f"`{name}`" in PAGE for name in RuleCondition.model_fields)
    assert all(f"`{kind}`" in PAGE for kind in KINDS)
