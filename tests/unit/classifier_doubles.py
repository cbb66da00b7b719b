"""A classifier that says what its prompts tell it to, can be held, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weir.common.errors import ErrorCode, WeirError
from weir.router.classifier.base import Assessment, DomainShare

PRIOR = Assessment(0.3, 0.1, 0, ())
# A grid on which 0.2 to 0.8 is doubtful at an error rate of 0.1.
UNSURE: dict[str, list[float]] = {
    "fit": [0.8 * k / 90 if k <= 90 else 0.8 + 0.02 * (k - 90) for k in range(101)],
    "unfit": [0.8 * k / 90 if k <= 90 else 0.8 + 0.02 * (k - 90) for k in range(101)],
    "rows": [100_000.0, 100_000.0],
}


@dataclass
class ScriptedClassifier:
    """The complexity of "0.7 anything" is 0.7 plus ``shift``; of "fail anything" there is none."""

    revision: str = "r1"
    shift: float = 0.0
    prior: Assessment = PRIOR
    conformal: Mapping[str, Sequence[float]] = field(default_factory=lambda: UNSURE)
    batches: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    @property
    def asked(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    def hold(self) -> None:
        """Let the next batch wait until ``gate`` is set; ``entered`` says that it began."""
        self.entered.clear()
        self.gate.clear()

    def assess(self, texts: Sequence[str]) -> list[Assessment]:
        self.batches.append(list(texts))
        self.entered.set()
        self.gate.wait(30)
        if any(text.startswith("fail") for text in texts):
            raise RuntimeError(f"a scripted failure of {texts}")
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Assessment:
        first = text.split(" ", 1)[0]
        complexity = float(first) if first.replace(".", "", 1).isdigit() else 0.1
        return Assessment(complexity + self.shift, 0.2, len(text), (DomainShare("math", 0.9),))


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Folders:
    """Artifact folders of one line, "REVISION SHIFT", and what was loaded from them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.loaded: dict[str, ScriptedClassifier] = {}
        self.tried: list[str] = []

    def write(self, name: str, content: str) -> Path:
        folder = self._root / name
        folder.mkdir(exist_ok=True)
        staged = self._root / f"{name}.{time.monotonic_ns()}"
        staged.write_text(content)
        staged.rename(folder / "artifact.json")
        return folder

    def load(self, folder: Path | None) -> ScriptedClassifier:
        content = (folder / "artifact.json").read_text() if folder else "packaged 0"
        self.tried.append(content)
        revision, _, shift = content.partition(" ")
        try:
            made = ScriptedClassifier(revision, float(shift))
        except ValueError:
            raise WeirError(ErrorCode.MODEL_UNAVAILABLE, "The classifier is not valid.") from None
        self.loaded[revision] = made
        return made
