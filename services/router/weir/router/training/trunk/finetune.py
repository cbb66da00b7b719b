"""Fine-tuning a trunk on labeled prompts: whole, by its upper layers, or by low-rank updates."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from weir.router.training.trunk.batches import Ids, Labels, batches
from weir.router.training.trunk.frozen import FrozenLayers
from weir.router.training.trunk.network import Network, adapted, is_encoder, layer_list, load_trunk
from weir.router.training.trunk.plan import Plan, TrunkError, Tuning

Say = Callable[[str], None]
# The domain helps the trunk to tell subjects apart, but is not what it is trained for.
_DOMAIN_WEIGHT = 0.2
_WARM_UP = 0.06
_CLIP = 1.0
_DECAY = 0.01


@dataclass(frozen=True)
class Examples:
    """Rows to train or to measure on: token ids, and labels in the same order."""

    pieces: Sequence[Ids]
    labels: Labels


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned network, low-rank updates merged, and its validation loss at each evaluation."""

    network: Network
    losses: list[float]


def seeded(seed: int) -> np.random.Generator:
    """Seed Python, PyTorch and the returned generator."""
    random.seed(seed)
    torch.manual_seed(seed)
    return np.random.default_rng(seed)


def device_and_precision() -> tuple[str, bool]:
    """Return the device, and whether it multiplies in bfloat16 (on a CPU: AMX or AVX-512 BF16)."""
    if torch.cuda.is_available():
        return "cuda", torch.cuda.is_bf16_supported()
    flags = torch.cpu.get_capabilities()
    return "cpu", bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))


class FineTuning:
    """One run: the network, its sources (ids, or kept hidden states), and the loop over them."""

    def __init__(self, plan: Plan, train: Examples, validation: Examples, say: Say) -> None:
        self._tuning, self._say = plan.tuning, say
        self._draw = seeded(plan.tuning.seed)
        self._device, self._bfloat16 = device_and_precision()
        trunk = load_trunk(plan.trunk, plan.tuning.layers).to(self._device).eval()
        self._frozen = self._freeze(trunk, plan.tuning)
        self._train = self._sources(train)
        self._validation = self._sources(validation)
        self._labels = (train.labels, validation.labels)
        domains = len(train.labels.names)
        self._network = Network(adapted(trunk, plan.tuning), plan.tuning.pooling, domains).to(self._device)

    def _freeze(self, trunk: Any, tuning: Tuning) -> FrozenLayers | None:
        if not tuning.freeze:
            return None
        if not is_encoder(trunk.config.model_type):
            return FrozenLayers(trunk, tuning.freeze)
        if tuning.lora:
            raise TrunkError("--freeze goes with --lora for causal decoders only.")
        trunk.requires_grad_(False)
        layer_list(trunk)[tuning.freeze :].requires_grad_(True)
        return None

    def _sources(self, examples: Examples) -> list[torch.Tensor]:
        if self._frozen is None:
            return [torch.from_numpy(piece) for piece in examples.pieces]
        self._say(f"running the frozen layers on {len(examples.pieces)} prompts")
        budget = self._tuning.batch_tokens
        return self._frozen.outputs(examples.pieces, budget, bfloat16=self._bfloat16)

    def run(self) -> Tuned:
        """Train until the validation loss no longer falls; return the network of its lowest."""
        tuning = self._tuning
        rows = np.arange(len(self._train))
        lengths = [len(source) for source in self._train]
        epoch = len(batches(lengths, rows, tuning.batch_tokens))
        steps, every = epoch * tuning.epochs, math.ceil(epoch / tuning.evaluations)
        optimizer = self._optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmed(steps))
        order = itertools.chain.from_iterable(
            batches(lengths, rows, tuning.batch_tokens, self._draw) for _ in range(tuning.epochs)
        )
        best = _Best(tuning.patience)
        for step, batch in enumerate(order, start=1):
            loss = self._step(batch, optimizer, schedule)
            if step % every and step < steps:
                continue
            found = self.validation_loss()
            self._say(f"step {step} of {steps}: loss {loss:.4f}, on validation {found:.4f}")
            if best.take(found, self._trained):
                break
        return self._finished(best)

    def _optimizer(self) -> torch.optim.Optimizer:
        heads = [*self._network.events.parameters(), *self._network.domains.parameters()]
        trunk = [p for p in self._network.trunk.parameters() if p.requires_grad]
        groups = [
            {"params": trunk, "lr": self._tuning.peak_rate},
            {"params": heads, "lr": self._tuning.head_rate},
        ]
        return torch.optim.AdamW(groups, weight_decay=_DECAY)

    def _step(self, batch: Ids, optimizer: torch.optim.Optimizer, schedule: Any) -> float:
        self._network.train()
        loss, _ = self._loss(self._train, self._labels[0], batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _CLIP)
        optimizer.step()
        schedule.step()
        return float(loss.detach())

    def _loss(
        self, sources: list[torch.Tensor], labels: Labels, batch: Ids
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the training loss and the events' share of it, which is what validation goes by."""
        source, mask = stacked([sources[row] for row in batch], self._device)
        with torch.autocast(self._device, dtype=torch.bfloat16, enabled=self._bfloat16):
            events, domains = self._network(source, mask)
        event_loss = _event_loss(events.float(), labels, batch)
        groups = torch.from_numpy(labels.domains[batch]).to(self._device)
        if not bool((groups >= 0).any()):
            return event_loss, event_loss
        domain_loss = functional.cross_entropy(domains.float(), groups, ignore_index=-1)
        return event_loss + _DOMAIN_WEIGHT * domain_loss, event_loss

    def validation_loss(self) -> float:
        """Return the mean log loss of the events over the validation rows."""
        self._network.eval()
        lengths = [len(source) for source in self._validation]
        total = 0.0
        with torch.inference_mode():
            for batch in batches(lengths, np.arange(len(lengths)), 2 * self._tuning.batch_tokens):
                total += float(self._loss(self._validation, self._labels[1], batch)[1]) * len(batch)
        return total / len(lengths)

    def _trained(self) -> dict[str, torch.Tensor]:
        wanted = {name for name, value in self._network.named_parameters() if value.requires_grad}
        state = self._network.state_dict()
        return {name: state[name].detach().cpu().clone() for name in wanted}

    def _finished(self, best: _Best) -> Tuned:
        network = self._network
        network.load_state_dict(best.state, strict=False)
        if self._tuning.lora:
            network.trunk = network.trunk.merge_and_unload()
        if self._frozen is not None:
            self._frozen.restore(network.trunk)
        return Tuned(network.cpu().float().eval(), best.losses)


class _Best:
    """The state with the lowest loss, and when to stop looking for a lower one."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self.losses: list[float] = []
        self.state: dict[str, torch.Tensor] = {}

    def take(self, loss: float, state: Callable[[], dict[str, torch.Tensor]]) -> bool:
        """Keep the state where the loss is the lowest; return whether to stop."""
        if not self.losses or loss < min(self.losses):
            self.state = state()
        self.losses.append(loss)
        return len(self.losses) - 1 - self.losses.index(min(self.losses)) >= self._patience


def _event_loss(logits: torch.Tensor, labels: Labels, batch: Ids) -> torch.Tensor:
    """Return the log loss over the events that are known, each row with its weight."""
    wanted = torch.from_numpy(labels.events[batch]).to(logits.device)
    known = ~wanted.isnan()
    share = torch.from_numpy(labels.weights[batch]).to(logits.device)[:, None] * known
    losses = functional.binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none")
    total: torch.Tensor = (losses * share).sum() / share.sum().clamp(min=1e-6)
    return total


def stacked(sources: Sequence[torch.Tensor], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right: ids [n] to [b, longest], hidden states [n, d] to [b, longest, d]; and the mask."""
    made = torch.nn.utils.rnn.pad_sequence(list(sources), batch_first=True)
    lengths = torch.tensor([len(source) for source in sources])
    mask = (torch.arange(made.shape[1])[None] < lengths[:, None]).long()
    made = made.float() if made.is_floating_point() else made
    return made.to(device), mask.to(device)


def _warmed(steps: int) -> Callable[[int], float]:
    """Linear warm-up over the first 6 % of the steps, then linear decay to zero."""
    warm = max(1, round(_WARM_UP * steps))
    return lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
