"""Frozen lower layers: their output is computed once for each row and kept, so that epochs cost less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from weir.router.training.trunk.batches import Ids, batches, padded
from weir.router.training.trunk.network import is_encoder, layer_list
from weir.router.training.trunk.plan import TrunkError

_CLOSE = 1e-3


class FrozenLayers:
    """The first ``count`` layers of ``trunk``, taken out of it until ``restore``.

    In between, the trunk takes the frozen layers' output as ``inputs_embeds``. That is right only where an
    architecture hands these to its first layer unchanged, which is checked on one prompt.
    """

    def __init__(self, trunk: Any, count: int) -> None:
        self._trunk = trunk
        layers = layer_list(trunk)
        if is_encoder(trunk.config.model_type) or not hasattr(trunk, "norm"):
            raise TrunkError("The frozen layers' output can be kept for causal decoders only.")
        if not 0 < count < len(layers):
            raise TrunkError(f"The trunk has {len(layers)} layers; --freeze {count} leaves none to train.")
        probe = torch.arange(3, 11, device=trunk.device).unsqueeze(0)
        whole = trunk(input_ids=probe, use_cache=False).last_hidden_state
        self._lower, self._upper = layers[:count], layers[count:]
        self._norm = trunk.norm
        trunk.requires_grad_(False)
        self._take(self._upper)
        parts = trunk(inputs_embeds=self._run(probe), use_cache=False).last_hidden_state
        if not torch.allclose(whole, parts, atol=_CLOSE, rtol=_CLOSE):
            raise TrunkError(f"{type(trunk).__name__} changes its inputs_embeds; leave --freeze out.")
        for module in (self._upper, self._norm):
            module.requires_grad_(True)

    def _take(self, layers: nn.ModuleList) -> None:
        self._trunk.layers = layers
        self._trunk.config.num_hidden_layers = len(layers)

    def _run(self, ids: torch.Tensor) -> torch.Tensor:
        self._take(self._lower)
        self._trunk.norm = nn.Identity()
        try:
            with torch.inference_mode():
                found: torch.Tensor = self._trunk(input_ids=ids, use_cache=False).last_hidden_state
            return found.clone()
        finally:
            self._take(self._upper)
            self._trunk.norm = self._norm

    def outputs(self, pieces: Sequence[Ids], budget: int, *, bfloat16: bool) -> list[torch.Tensor]:
        """Return each row's hidden states after the frozen layers, bfloat16 [n, d], in the rows' order.

        They are kept in bfloat16 anyway; ``bfloat16`` is whether to compute in it too.
        """
        lengths = [len(piece) for piece in pieces]
        kept: dict[int, torch.Tensor] = {}
        for rows in batches(lengths, np.arange(len(pieces)), budget):
            ids, _ = padded([pieces[row] for row in rows])
            device = self._trunk.device
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
                found = self._run(torch.from_numpy(ids).to(device)).to(torch.bfloat16).cpu()
            kept |= {int(row): found[at, : lengths[row]].clone() for at, row in enumerate(rows)}
        return [kept[row] for row in range(len(pieces))]

    def restore(self, trunk: Any) -> None:
        """Put the frozen layers back below those of ``trunk``, which may have been merged since."""
        self._trunk = trunk
        self._take(nn.ModuleList([*self._lower, *trunk.layers]))
