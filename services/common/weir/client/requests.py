"""What a caller asks for, and its conversion to the protos; ``None`` always means the default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from weir.client.events import Residency, Tier
from weir.v1 import types_pb2


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. A conversation that ends with the assistant's turn is continued from there."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen; ``None`` is the model's default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What the answer must match, one of the four. ``json_schema`` is JSON text, draft 2020-12."""

    json_schema: str | None = None
    regex: str | None = None
    choices: Sequence[str] = ()
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What bounds the choice of tier."""

    residency: Residency | None = None
    allowed_tiers: Sequence[Tier] = ()
    max_cost_usd: float | None = None
    latency_budget: timedelta | None = None
    no_store: bool | None = None
    domain: str = ""


Conversation = str | Sequence[Message]


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, its sampling, its output constraint and its policy."""

    prompt: Conversation
    sampling: Sampling = field(default_factory=Sampling)
    output: Output = field(default_factory=Output)
    policy: Policy = field(default_factory=Policy)

    def prompt_proto(self) -> types_pb2.Prompt:
        """Return the prompt as sent."""
        messages = [Message("user", self.prompt)] if isinstance(self.prompt, str) else self.prompt
        roles = {
            "system": types_pb2.ROLE_SYSTEM,
            "user": types_pb2.ROLE_USER,
            "assistant": types_pb2.ROLE_ASSISTANT,
        }
        sampling = self.sampling
        return types_pb2.Prompt(
            messages=[types_pb2.Message(role=roles[m.role], content=m.content) for m in messages],
            sampling=types_pb2.SamplingParams(
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                seed=sampling.seed,
                stop=sampling.stop,
            ),
            output=self._output_proto(),
        )

    def _output_proto(self) -> types_pb2.OutputConstraint | None:
        output = self.output
        given = [name for name in ("json_schema", "regex", "choices", "grammar") if getattr(output, name)]
        if len(given) > 1:
            raise ValueError(f"give one output constraint, not {' and '.join(given)}")
        if output.choices:
            return types_pb2.OutputConstraint(choices=types_pb2.Choices(choice=output.choices))
        if not given:
            return None
        proto = types_pb2.OutputConstraint()
        setattr(proto, given[0], getattr(output, given[0]))
        return proto

    def policy_proto(self) -> types_pb2.Policy:
        """Return the policy as sent."""
        policy = self.policy
        proto = types_pb2.Policy(
            allowed_tiers=[types_pb2.Tier.Value(f"TIER_{tier.upper()}") for tier in policy.allowed_tiers],
            max_cost_usd=policy.max_cost_usd,
            no_store=policy.no_store,
            domain=policy.domain,
        )
        if policy.residency is not None:
            proto.residency = types_pb2.Residency.Value(f"RESIDENCY_{policy.residency.upper()}")
        if policy.latency_budget is not None:
            proto.latency_budget.FromTimedelta(policy.latency_budget)
        return proto
