"""A fine-tuned network as an artifact: exported, the encoder class's heads on its embeddings, measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import onnx

from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata, DataFacts, ModelFacts
from weir.router.classifier.encoder import Encoder
from weir.router.classifier.model import Classifier
from weir.router.training import heads
from weir.router.training.evaluation import Table, evaluate, predict
from weir.router.training.heads import Heads
from weir.router.training.pipeline import features_of, labels_of
from weir.router.training.recalibration import Recalibration, recalibrate
from weir.router.training.trunk import precision
from weir.router.training.trunk.export import place
from weir.router.training.trunk.finetune import Say
from weir.router.training.trunk.network import Network
from weir.router.training.trunk.plan import Plan, Precision
from weir.router.training.trunk.rows import Prepared
from weir.router.training.trunk.torch_graph import to_onnx

_PACKAGES = ("numpy", "onnx", "onnxruntime", "peft", "tokenizers", "torch", "transformers")
_NOTICE = """\
model.onnx and tokenizer.json are derived from {name} (license: {license}):
fine-tuned, converted to ONNX and stored as {precision}. heads.onnx was trained with it on the data that
artifact.json names under its own license.
"""


def publish(plan: Plan, rows: Prepared, network: Network, say: Say) -> Publisher:
    """Return what writes the artifacts of a fine-tuned, merged network."""
    facts = msgspec.structs.replace(
        rows.facts,
        kind="encoder" if network.encoder else "decoder",
        dimensions=network.events.in_features,
    )
    return Publisher(plan, rows, to_onnx(network, plan.tuning.max_tokens), facts, say)


@dataclass(frozen=True)
class Publisher:
    """Writes a fine-tuned network as artifacts, the heads of each fitted to its own embeddings.

    The heads that fine-tuning used are left behind: those of the encoder class, which read the prompt's form
    too, route better on the same embeddings (see docs/classifier-1b.md).
    """

    plan: Plan
    rows: Prepared
    graph: onnx.ModelProto
    facts: ModelFacts
    say: Say

    def write(self, out: Path, master: Path | None) -> ArtifactMetadata:
        """Write the artifact in the plan's precision and, to ``master``, in float32."""
        wanted = self.plan.precision
        with tempfile.TemporaryDirectory() as scratch:
            exact = Path(scratch) / "fp32"
            metadata = self._artifact(exact, self.graph, "fp32")
            if wanted != "fp32":
                before = {f"fp32: {name}": row for name, row in metadata.metrics.items() if ":" not in name}
                made = Path(scratch) / wanted
                self.say(f"converting to {wanted}")
                # From the file: saving a large model moves its weights out of ``graph``.
                graph = precision.convert(onnx.load(exact / artifact.MODEL), wanted)
                metadata = self._artifact(made, graph, wanted)
                metadata = msgspec.structs.replace(metadata, metrics=metadata.metrics | before)
                artifact.write_metadata(metadata, made)
                place(made, out)
            if master is not None:
                master.mkdir(parents=True, exist_ok=True)
                shutil.copytree(exact, master, dirs_exist_ok=True)
            if wanted == "fp32":
                place(exact, out)
        return metadata

    def _artifact(self, folder: Path, graph: onnx.ModelProto, stored: Precision) -> ArtifactMetadata:
        """Write the graph, fit the heads to its embeddings; seal, measure, describe."""
        folder.mkdir()
        precision.save(graph, folder / artifact.MODEL)
        self.rows.tokenizer.save(str(folder / artifact.TOKENIZER))
        facts = msgspec.structs.replace(self.facts, precision=stored)
        notice = _NOTICE.format(name=facts.name, license=facts.license, precision=stored)
        (folder / "NOTICE").write_text(notice, encoding="utf-8")
        self.say(f"fitting the heads to {len(self.rows.train.rows)} prompts ({stored})")
        encoder, known = Encoder(folder, facts), self.rows.validation.complete
        fitted = heads.fit(
            features_of(encoder, self.rows.train), facts.dimensions, labels_of(self.rows.train)
        )
        heads.export(fitted, folder / artifact.HEADS)
        calibrated = recalibrate(fitted.complexity(features_of(encoder, known)), known, None)
        metadata = artifact.sealed(self._described(fitted, calibrated, facts), folder)
        self.say(f"measuring on {len(self.rows.validation.rows)} prompts ({stored})")
        metadata = msgspec.structs.replace(metadata, metrics=self._measured(folder, metadata))
        artifact.write_metadata(metadata, folder)
        return metadata

    def _described(self, fitted: Heads, calibrated: Recalibration, facts: ModelFacts) -> ArtifactMetadata:
        plan, data = self.plan, self.plan.train.complete
        return ArtifactMetadata(
            format=artifact.FORMAT,
            revision="",
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            license=plan.trunk_license,
            model=facts,
            data=DataFacts(
                name=data.name,
                sha256=data.sha256,
                rows=len(self.rows.train.rows),
                license=plan.data_license,
                weak_model=plan.weak_model,
                strong_model=plan.strong_model,
                domains=sorted(set(data.subjects.tolist())),
                weak_accuracy=round(float(data.weak.mean()), 6),
                gain=round(float(data.strong.mean() - data.weak.mean()), 6),
            ),
            calibration=calibrated.calibration,
            conformal=calibrated.conformal,
            domains=list(fitted.names),
            files={},
            versions={name: importlib.metadata.version(name) for name in _PACKAGES},
            heads=fitted.chosen,
        )

    def _measured(self, folder: Path, metadata: ArtifactMetadata) -> Table:
        data = self.rows.validation.complete
        found = predict(Classifier(folder, metadata), data)
        table = evaluate(found, data, self.rows.train.complete)
        return {name: {key: round(value, 4) for key, value in row.items()} for name, row in table.items()}
