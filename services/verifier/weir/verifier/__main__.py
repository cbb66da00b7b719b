"""Runs the verifier: ``python -m weir.verifier``."""

from weir.common.main import main
from weir.verifier.app import build

main(build)
