"""Settings of all services: one file, one environment, one shape."""

from weir.common.config.settings import ConfigError, Settings, load_settings

__all__ = ["ConfigError", "Settings", "load_settings"]
