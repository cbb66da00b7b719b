"""Runs the service: ``python -m weir.router``."""

from weir.common.main import main
from weir.router.app import build

if __name__ == "__main__":
    main(build)
