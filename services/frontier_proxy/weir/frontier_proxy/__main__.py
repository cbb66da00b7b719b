"""Entry point: ``python -m weir.frontier_proxy``."""

from weir.common.main import main
from weir.frontier_proxy.app import build

main(build)
