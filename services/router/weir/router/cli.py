"""The `weir router` commands."""

from weir.router.audit.command import audit
from weir.router.control.cli import status
from weir.router.replay.command import replay
from weir.router.training.calibrate_cli import calibrate
from weir.router.training.cli import router_app
from weir.router.training.evaluate_cli import evaluate
from weir.router.training.trunk.command import export

router_app.command()(evaluate)
router_app.command()(calibrate)
router_app.command()(export)
router_app.command()(audit)
router_app.command()(replay)
router_app.command()(status)

__all__ = ["router_app"]
