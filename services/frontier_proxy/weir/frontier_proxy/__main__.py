"""Entry point: ``python -m weir.frontier_proxy``."""

from weir.common.main import main
from weir.frontier_proxy.app import build
from weir.frontier_proxy.cores import forbid_core_dumps

forbid_core_dumps()
main(build)
