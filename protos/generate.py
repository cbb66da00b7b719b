"""Regenerates the committed gRPC stubs; `--check` fails when they differ from the protos."""

import argparse
import filecmp
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("weir/v1")
# Stubs of this generator load on every protobuf runtime that pyproject.toml admits.
GENERATOR = "1.81."


def generate(out: Path) -> None:
    """Write messages, services and their type stubs under ``out``."""
    if not version("grpcio-tools").startswith(GENERATOR):
        raise SystemExit(f"grpcio-tools {GENERATOR}x is wanted to generate stubs: run `uv sync`.")
    protos = [str(PACKAGE / path.name) for path in sorted((ROOT / PACKAGE).glob("*.proto"))]
    flags = [f"--{kind}={out}" for kind in ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", *flags, *protos]
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603


def drifted() -> list[str]:
    """Return the names of committed stubs that a fresh generation would change."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh, here = Path(folder) / PACKAGE, ROOT / PACKAGE
        names = {path.name for base in (fresh, here) for path in base.glob("*_pb2*.py*") if path.is_file()}
        _, differ, missing = filecmp.cmpfiles(fresh, here, sorted(names), shallow=False)
        return differ + missing


def main() -> None:
    """Generate in place, or check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        generate(ROOT)
    elif names := drifted():
        raise SystemExit(f"Stubs differ: {', '.join(names)}. Run `uv run python protos/generate.py`.")


if __name__ == "__main__":
    main()
