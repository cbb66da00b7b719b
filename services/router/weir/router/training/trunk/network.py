"""The trunk with its pooling and heads, as PyTorch trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from weir.router.training.trunk.batches import EVENTS
from weir.router.training.trunk.plan import Pooling, TrunkError, Tuning

# BERT's and ModernBERT's own families; every other architecture is read as a causal decoder.
_ENCODERS = ("bert", "electra", "deberta", "mpnet", "xlm", "nomic", "gte", "eurobert")
_DROPOUT = 0.1


def is_encoder(model_type: str) -> bool:
    """Whether the positions of this architecture see those after them."""
    return any(name in model_type for name in _ENCODERS)


def load_trunk(folder: Path, layers: int | None = None) -> Any:
    """Open a folder's model without its language-modeling head, in float32. Raises TrunkError."""
    from transformers import AutoModel

    try:
        trunk = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        raise TrunkError(f"{folder} holds no model that transformers can open: {error}") from None
    if layers is not None:
        found = layer_list(trunk)
        if not 0 < layers <= len(found):
            raise TrunkError(f"{folder} has {len(found)} layers; --layers {layers} cannot be kept.")
        del found[layers:]
        trunk.config.num_hidden_layers = layers
    return trunk


def layer_list(trunk: Any) -> nn.ModuleList:
    """Return the trunk's list of layers, wherever its architecture keeps it. Raises TrunkError."""
    for path in ("layers", "encoder.layer", "encoder.layers", "h"):
        found: Any = trunk
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise TrunkError(f"The layers of {type(trunk).__name__} were not found; --layers and --freeze need them.")


class Network(nn.Module):  # type: ignore[misc]
    """Trunk, pooling, and linear heads for the events and the domain.

    Rows are padded on the right. A causal decoder needs no mask then: no position sees the padding after it,
    and the pooled one is the last that is not padding.
    """

    def __init__(self, trunk: Any, pooling: Pooling, domains: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.encoder = is_encoder(trunk.config.model_type)
        self.pooling = pooling if pooling != "auto" else ("mean" if self.encoder else "last")
        width = trunk.config.hidden_size
        self.dropout = nn.Dropout(_DROPOUT)
        self.events = nn.Linear(width, len(EVENTS))
        self.domains = nn.Linear(width, domains)
        for head in (self.events, self.domains):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def hidden(self, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states [b, n, d]; ``source`` is ids, or frozen layers' hidden states."""
        given = {"inputs_embeds" if source.is_floating_point() else "input_ids": source}
        if self.encoder:
            given["attention_mask"] = mask
        more = {} if self.encoder else {"use_cache": False}
        found: torch.Tensor = self.trunk(**given, **more).last_hidden_state
        return found

    def embedding(self, source: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the pooled states, float32 [b, d]."""
        hidden = self.hidden(source, mask).float()
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "mean":
            weights = mask.unsqueeze(-1).float()
            return (hidden * weights).sum(1) / weights.sum(1)
        last = (mask.sum(1) - 1).view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
        return hidden.gather(1, last).squeeze(1)

    def forward(self, source: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of the events [b, 3] and of the domains [b, D]."""
        pooled = self.dropout(self.embedding(source, mask))
        return self.events(pooled), self.domains(pooled)


def adapted(trunk: Any, tuning: Tuning) -> Any:
    """Return the trunk with low-rank updates in all its linear layers where the tuning asks for them."""
    if not tuning.lora:
        return trunk
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=tuning.lora, lora_alpha=2 * tuning.lora, lora_dropout=0.05, target_modules="all-linear"
    )
    return get_peft_model(trunk, config)
