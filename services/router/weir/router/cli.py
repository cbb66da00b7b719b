"""The `weir router` commands."""

from weir.router.training.cli import router_app

__all__ = ["router_app"]
