"""API keys: from variables, files and hashes; files are read again; nothing of a key is kept or told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from weir.common.config import ConfigError
from weir.common.config.tenancy import Tenancy
from weir.common.tenancy.api_keys import KNOWN_PERIOD_S, KeyRing

OLD, NEW = "old-key-0123456789abcdef", "new-key-0123456789abcdef"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ring(clock: Clock | None = None, environ: dict[str, str] | None = None, **tenants: object) -> KeyRing:
    config = Tenancy.model_validate({"tenants": tenants})
    return KeyRing(config.tenants, environ or {}, clock or Clock())


def keys_file(path: Path, *keys: str) -> Path:
    """Replace the file as a deployment does, in one step."""
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(keys) + "\n")
    fresh.replace(path)
    return path


async def test_keys_from_all_three_sources_name_their_tenants(tmp_path: Path) -> None:
    path = keys_file(tmp_path / "keys", OLD)
    digest = hashlib.sha256(NEW.encode()).hexdigest()
    keys = ring(
        environ={"KEY": f" {OLD}-env\n"},
        by_variable={"api_keys": [{"env": "KEY"}]},
        by_file={"api_keys": [{"file": path}]},
        by_hash={"api_keys": [{"sha256": digest}]},
    )
    assert await keys.tenant_of(f"{OLD}-env") == "by_variable"
    assert await keys.tenant_of(OLD) == "by_file"
    assert await keys.tenant_of(NEW) == "by_hash"


@pytest.mark.parametrize("key", ["", OLD[:-1], f"{OLD} ", OLD.upper(), "ключ", "\ud800"])
async def test_what_is_no_key_names_nobody(key: str) -> None:
    keys = ring(environ={"KEY": OLD}, acme={"api_keys": [{"env": "KEY"}]})
    assert await keys.tenant_of(key) is None


async def test_a_hash_is_no_key() -> None:
    digest = hashlib.sha256(OLD.encode()).hexdigest()
    keys = ring(acme={"api_keys": [{"sha256": digest}]})
    assert await keys.tenant_of(digest) is None


async def test_a_new_key_in_a_file_is_taken_and_a_removed_one_goes(tmp_path: Path) -> None:
    path, clock = keys_file(tmp_path / "keys", OLD), Clock()
    keys = ring(clock, acme={"api_keys": [{"file": path}]})
    keys_file(path, OLD, NEW)
    clock.now += KNOWN_PERIOD_S
    assert await keys.tenant_of(NEW) == "acme"
    assert await keys.tenant_of(OLD) == "acme"
    keys_file(path, NEW)
    clock.now += KNOWN_PERIOD_S
    assert await keys.tenant_of(OLD) is None


async def test_an_unknown_key_makes_files_be_looked_at_sooner(tmp_path: Path) -> None:
    path, clock = keys_file(tmp_path / "keys", OLD), Clock()
    keys = ring(clock, acme={"api_keys": [{"file": path}]})
    keys_file(path, NEW)
    clock.now += KNOWN_PERIOD_S / 2
    assert await keys.tenant_of(OLD) == "acme"
    assert await keys.tenant_of(NEW) == "acme"
    assert await keys.tenant_of(OLD) is None


@pytest.mark.parametrize("content", [b"short\n", b"\xff\xfe broken", None])
async def test_a_file_that_cannot_be_used_leaves_the_keys_it_had(
    tmp_path: Path, content: bytes | None
) -> None:
    path, clock = keys_file(tmp_path / "keys", OLD), Clock()
    keys = ring(clock, acme={"api_keys": [{"file": path}]})
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    clock.now += KNOWN_PERIOD_S
    assert await keys.tenant_of(OLD) == "acme"


async def test_an_emptied_file_takes_its_keys_away(tmp_path: Path) -> None:
    path, clock = keys_file(tmp_path / "keys", OLD), Clock()
    keys = ring(clock, acme={"api_keys": [{"file": path}]})
    keys_file(path)
    clock.now += KNOWN_PERIOD_S
    assert await keys.tenant_of(OLD) is None


async def test_a_key_that_another_tenant_has_is_not_taken_over(tmp_path: Path) -> None:
    path, clock = keys_file(tmp_path / "keys", OLD), Clock()
    keys = ring(
        clock, {"KEY": NEW}, acme={"api_keys": [{"env": "KEY"}]}, rival={"api_keys": [{"file": path}]}
    )
    keys_file(path, NEW)
    clock.now += KNOWN_PERIOD_S
    assert await keys.tenant_of(NEW) == "acme"
    assert await keys.tenant_of(OLD) == "rival"


async def test_a_refused_file_does_not_hold_the_others_back(tmp_path: Path) -> None:
    stolen, own, clock = keys_file(tmp_path / "a", OLD), keys_file(tmp_path / "b", f"{OLD}-b"), Clock()
    keys = ring(
        clock,
        {"KEY": NEW},
        acme={"api_keys": [{"env": "KEY"}]},
        rival={"api_keys": [{"file": stolen}]},
        other={"api_keys": [{"file": own}]},
    )
    keys_file(stolen, NEW)
    keys_file(own, f"{NEW}-b")
    clock.now += KNOWN_PERIOD_S
    assert await keys.tenant_of(f"{NEW}-b") == "other"
    assert await keys.tenant_of(f"{OLD}-b") is None


@pytest.mark.parametrize(
    "value",
    ["", "too short", f"{OLD} {NEW}", "0123456789abcdef\u00e9"],
    ids=["unset", "short", "two", "latin"],
)
def test_a_variable_that_holds_no_key_is_refused_without_telling_it(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ring(environ={"KEY": value}, acme={"api_keys": [{"env": "KEY"}]})
    assert "acme" in str(caught.value)
    assert not value or value not in str(caught.value)


def test_a_file_that_is_missing_at_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        ring(acme={"api_keys": [{"file": tmp_path / "none"}]})


def test_one_key_for_two_tenants_is_refused() -> None:
    one, two = {"api_keys": [{"env": "KEY"}]}, {"api_keys": [{"env": "KEY"}]}
    with pytest.raises(ConfigError, match="another tenant"):
        ring(environ={"KEY": OLD}, one=one, two=two)


async def test_no_key_is_kept(tmp_path: Path) -> None:
    path = keys_file(tmp_path / "keys", OLD)
    keys = ring(environ={"KEY": NEW}, a={"api_keys": [{"env": "KEY"}]}, b={"api_keys": [{"file": path}]})
    assert await keys.tenant_of(OLD) == "b"
    held = repr({name: value for name, value in vars(keys).items() if not callable(value)})
    assert OLD not in held
    assert NEW not in held
