"""Runs the service: ``python -m weir.slm_worker``."""

from weir.common.main import main
from weir.slm_worker.app import build

if __name__ == "__main__":
    main(build)
