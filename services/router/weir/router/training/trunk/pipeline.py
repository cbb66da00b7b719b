"""From a trunk and labeled prompts to an artifact."""

from __future__ import annotations

from pathlib import Path

from weir.router.classifier.artifact import ArtifactMetadata
from weir.router.training.trunk.batches import labels_of
from weir.router.training.trunk.finetune import Examples, FineTuning, Say
from weir.router.training.trunk.plan import Plan
from weir.router.training.trunk.publish import publish
from weir.router.training.trunk.rows import prepare


def train(plan: Plan, out: Path, master: Path | None, say: Say) -> ArtifactMetadata:
    """Fine-tune, export and measure; ``out`` holds a complete artifact afterwards.

    Args:
        plan: what to train, on what, and how.
        out: folder for the artifact in the plan's precision.
        master: folder for the same in float32, from which ``weir router export`` makes other precisions.
        say: is told about each step.

    Raises:
        TrunkError: the trunk or the rows cannot be used as asked.
    """
    rows = prepare(plan)
    for note in (*rows.train.notes, *rows.validation.notes):
        say(note)
    labels = labels_of(rows.train)
    say(f"fine-tuning on {len(rows.train.rows)} prompts")
    training = Examples(rows.pieces(rows.train), labels)
    checking = Examples(rows.pieces(rows.validation), labels_of(rows.validation, labels.names))
    network = FineTuning(plan, training, checking, say).run().network
    say("exporting to ONNX")
    return publish(plan, rows, network, say).write(out, master)
