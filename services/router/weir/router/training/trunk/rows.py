"""The rows and tokens that a fine-tuning works with: repeats and leaks dropped."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from weir.router.classifier import artifact
from weir.router.classifier.artifact import ModelFacts
from weir.router.classifier.text import open_tokenizer, tokenize
from weir.router.training.dataset import Dataset
from weir.router.training.duplicates import deduplicated, without_leaks
from weir.router.training.trunk.batches import Ids
from weir.router.training.trunk.plan import Plan, TrunkError

_FEWEST = 10


@dataclass(frozen=True)
class Prepared:
    """Rows that may be used, tokenized as they will be when serving."""

    train: Dataset
    validation: Dataset
    facts: ModelFacts
    tokenizer: Tokenizer

    def pieces(self, data: Dataset) -> list[Ids]:
        """Return the token ids of each prompt."""
        facts = self.facts
        return [
            tokenize(self.tokenizer, prompt, facts.max_tokens, facts.begin, facts.end).ids
            for prompt in data.prompts
        ]


def prepare(plan: Plan) -> Prepared:
    """Read the trunk's tokenizer, and drop repeated and leaked prompts. Raises TrunkError."""
    path = plan.trunk / "tokenizer.json"
    if not path.is_file():
        raise TrunkError(f"{plan.trunk} has no tokenizer.json; save transformers' fast tokenizer there.")
    tokenizer = open_tokenizer(path)
    begin, end = surroundings(tokenizer)
    validation = deduplicated(plan.validation)
    known = without_leaks(deduplicated(plan.train), validation)
    _check(known)
    facts = ModelFacts(
        kind="decoder",
        name=plan.trunk.resolve().name,
        source="a folder given with --trunk",
        source_sha256=_digest(plan.trunk),
        license=plan.trunk_license,
        precision="fp32",
        max_tokens=plan.tuning.max_tokens,
        dimensions=1,
        begin=begin,
        end=end,
    )
    return Prepared(known, validation, facts, tokenizer)


def surroundings(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the token ids that the tokenizer puts before and after a text."""
    encoded = tokenizer.encode("text")
    inner = [index for index, special in enumerate(encoded.special_tokens_mask) if not special]
    return encoded.ids[: inner[0]], encoded.ids[inner[-1] + 1 :]


def _check(data: Dataset) -> None:
    known = [row.weak_correct for row in data.rows if row.complete]
    fewest = min(known.count(True), known.count(False))
    if fewest < _FEWEST:
        raise TrunkError(
            f"{data.name}: {fewest} rows have the weak model right or wrong; at least {_FEWEST} of each are "
            "needed."
        )


def _digest(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TrunkError(f"{folder} has no safetensors file; a Hugging Face folder is needed.")
    found = [artifact.sha256_of(file) for file in files]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
