"""A fine-tuned network as an artifact: exported, its heads fitted to unseen rows, measured."""

from __future__ import annotations

import datetime
import importlib.metadata
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import onnx
from torch import nn

from weir.router.classifier import artifact
from weir.router.classifier.artifact import ArtifactMetadata, DataFacts, ModelFacts
from weir.router.classifier.encoder import Encoder
from weir.router.classifier.model import Classifier
from weir.router.training.evaluation import Table, evaluate, predict
from weir.router.training.trunk import heads, precision
from weir.router.training.trunk.batches import labels_of
from weir.router.training.trunk.export import place
from weir.router.training.trunk.finetune import Say
from weir.router.training.trunk.heads import FittedHeads, Linear, TrunkHeads
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


def publish(plan: Plan, rows: Prepared, network: Network, names: tuple[str, ...], say: Say) -> Publisher:
    """Return what writes the artifacts of a fine-tuned, merged network; ``names`` are the domains'."""
    own = TrunkHeads(_linear(network.events), _linear(network.domains))
    facts = msgspec.structs.replace(
        rows.facts,
        kind="encoder" if network.encoder else "decoder",
        dimensions=network.events.in_features,
    )
    return Publisher(plan, rows, to_onnx(network, plan.tuning.max_tokens), own, facts, names, say)


@dataclass(frozen=True)
class Publisher:
    """Writes a fine-tuned network as artifacts, the heads of each fitted to its view of the held-out rows."""

    plan: Plan
    rows: Prepared
    graph: onnx.ModelProto
    own: TrunkHeads
    facts: ModelFacts
    names: tuple[str, ...]
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
        """Write the graph, fit the heads to its embeddings of the held-out rows; seal, measure, describe."""
        folder.mkdir()
        precision.save(graph, folder / artifact.MODEL)
        self.rows.tokenizer.save(str(folder / artifact.TOKENIZER))
        facts = msgspec.structs.replace(self.facts, precision=stored)
        notice = _NOTICE.format(name=facts.name, license=facts.license, precision=stored)
        (folder / "NOTICE").write_text(notice, encoding="utf-8")
        self.say(f"fitting the heads to {len(self.rows.held.rows)} prompts ({stored})")
        fitted = self._fitted(Encoder(folder, facts))
        heads.write(fitted, folder / artifact.HEADS)
        metadata = artifact.sealed(self._described(fitted, facts), folder)
        self.say(f"measuring on {len(self.rows.validation.rows)} prompts ({stored})")
        metadata = msgspec.structs.replace(metadata, metrics=self._measured(folder, metadata))
        artifact.write_metadata(metadata, folder)
        return metadata

    def _fitted(self, encoder: Encoder) -> FittedHeads:
        held = self.rows.held
        features = np.concatenate([encoder.features([prompt])[0] for prompt in held.prompts])
        return heads.fit(self.own, features, labels_of(held, self.names).events, self.plan.tuning.seed)

    def _described(self, fitted: FittedHeads, facts: ModelFacts) -> ArtifactMetadata:
        plan, data = self.plan, self.plan.train.complete
        slopes = ", ".join(f"{name} {value}" for name, value in fitted.slopes.items())
        return ArtifactMetadata(
            format=artifact.FORMAT,
            revision="",
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            license=plan.trunk_license,
            model=facts,
            data=DataFacts(
                name=data.name,
                sha256=data.sha256,
                rows=len(self.rows.train.rows) + len(self.rows.held.rows),
                license=plan.data_license,
                weak_model=plan.weak_model,
                strong_model=plan.strong_model,
                domains=sorted(set(data.subjects.tolist())),
                weak_accuracy=round(float(data.weak.mean()), 6),
                gain=round(float(data.strong.mean() - data.weak.mean()), 6),
            ),
            calibration=fitted.calibration,
            conformal=fitted.conformal,
            domains=list(self.names),
            files={},
            versions={name: importlib.metadata.version(name) for name in _PACKAGES},
            heads={"events": f"the trunk's own, Platt scaled on held-out rows; slopes: {slopes}"},
        )

    def _measured(self, folder: Path, metadata: ArtifactMetadata) -> Table:
        data = self.rows.validation.complete
        found = predict(Classifier(folder, metadata), data)
        table = evaluate(found, data, self.rows.train.complete)
        return {name: {key: round(value, 4) for key, value in row.items()} for name, row in table.items()}


def _linear(layer: nn.Linear) -> Linear:
    weight, bias = layer.weight.detach(), layer.bias.detach()
    return Linear(weight.double().numpy(), bias.double().numpy())
