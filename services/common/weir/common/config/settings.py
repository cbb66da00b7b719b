"""Loading: a YAML file, environment variables over it, unknown keys refused with the nearest known name."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from weir.common.config import model
from weir.common.config.frontier import Frontier
from weir.common.config.routing import Routing
from weir.common.config.tenancy import Tenancy


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key and what to write instead."""


class Settings(BaseSettings):
    """Everything that can be configured. Built by ``load_settings``; immutable."""

    model_config = SettingsConfigDict(
        env_prefix="WEIR_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    routing: Routing = Routing()
    tiers: model.Tiers = model.Tiers()
    observability: model.Observability = model.Observability()
    services: model.Services = model.Services()
    frontier: Frontier = Frontier()
    tenancy: Tenancy = Tenancy()
    models: model.Models = model.Models()
    state: model.State = model.State()
    viewer: model.Viewer = model.Viewer()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes over the file (which comes in as init arguments)."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


# Variables that steer the command line itself, not a setting.
RESERVED_ENV = frozenset({"WEIR_CONFIG", "WEIR_API_KEY", "WEIR_TOKEN"})


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Args:
        path: a YAML file; without one the defaults (the embedded set-up) apply.
        environ: the environment, checked for misspelled ``WEIR_`` names; its values are read by pydantic.

    Raises:
        ConfigError: an unreadable file, an unknown key (with the nearest known one), or a bad value.
    """
    content = _read(path) if path else {}
    for key, near in _unknown(content, Settings):
        raise ConfigError(f"{path}: unknown key '{key}'{_suggest(near)}")
    _check_environment(environ or {})
    try:
        return Settings(**content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path or 'environment'}: {where}: {first['msg']}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); check the path given with --config."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {str(error).splitlines()[0]}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a mapping of sections is expected at the top.")
    return content


def _suggest(near: str | None) -> str:
    return f"; did you mean '{near}'?" if near else ""


def _section(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, types.UnionType):
        return next((s for s in map(_section, get_args(annotation)) if s), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _mapped_section(annotation: Any) -> type[BaseModel] | None:
    return _section(get_args(annotation)[1]) if get_origin(annotation) is dict else None


def _listed_section(annotation: Any) -> type[BaseModel] | None:
    return _section(get_args(annotation)[0]) if get_origin(annotation) is list else None


def _unknown(content: object, schema: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """Yield the dotted name of each key that the schema lacks, with the nearest one it has."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        name = str(key)
        if name not in schema.model_fields:
            near = difflib.get_close_matches(name, schema.model_fields, n=1, cutoff=0.5)
            yield prefix + name, prefix + near[0] if near else None
            continue
        annotation = schema.model_fields[name].annotation
        if inner := _section(annotation):
            yield from _unknown(value, inner, f"{prefix}{name}.")
        elif (entry := _mapped_section(annotation)) and isinstance(value, dict):
            for item, nested in value.items():
                yield from _unknown(nested, entry, f"{prefix}{name}.{item}.")
        elif (entry := _listed_section(annotation)) and isinstance(value, list):
            for index, nested in enumerate(value):
                yield from _unknown(nested, entry, f"{prefix}{name}.{index}.")


def _check_environment(environ: Mapping[str, str]) -> None:
    for variable in environ:
        if not variable.startswith("WEIR_") or variable in RESERVED_ENV:
            continue
        content: dict[str, Any] = {}
        here = content
        *parents, last = variable.removeprefix("WEIR_").lower().split("__")
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = None
        for _, near in _unknown(content, Settings):
            name = "WEIR_" + near.upper().replace(".", "__") if near else None
            raise ConfigError(f"unknown environment variable '{variable}'{_suggest(name)}")
