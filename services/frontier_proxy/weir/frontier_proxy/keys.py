"""Provider keys: from environment variables or files alone, held as secrets."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import SecretStr

from weir.common.config import ConfigError
from weir.common.config.frontier import Provider

WELL_KNOWN = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}


def key_source(provider: Provider) -> str:
    """Say where the key is looked for; empty where a provider is meant to have none."""
    if provider.api_key_file:
        return str(provider.api_key_file)
    return provider.api_key_env or WELL_KNOWN.get(provider.kind, "")


def find_key(name: str, provider: Provider, environ: Mapping[str, str]) -> SecretStr | None:
    """Return the key, or ``None`` where there is none.

    Raises:
        ConfigError: a file that cannot be read, or a key that no HTTP header can carry.
    """
    source = key_source(provider)
    value = environ.get(source, "")
    if provider.api_key_file:
        try:
            value = provider.api_key_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            hint = f"frontier.providers.{name}.api_key_file: {source} cannot be read"
            raise ConfigError(f"{hint}; give the path of a text file that holds the key.") from None
    value = value.strip()
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        raise ConfigError(f"the key in {source} holds characters that no key has; copy it again.")
    return SecretStr(value) if value else None
