"""Which kinds of personal data and secrets the conversation holds."""

from __future__ import annotations

from weir.common import personal_data
from weir.common.prompts import PromptSpec
from weir.router.signals.base import Observation, Written

KINDS = tuple(kind.lower() for kind in personal_data.KINDS)


class PersonalData:
    """A subset of ``KINDS``, over all messages: what is sent is the whole conversation, not its last turn."""

    name = "personal_data"

    def read(self, seen: Observation) -> frozenset[str]:  # noqa: D102
        return frozenset(kind.lower() for kind in personal_data.kinds(_whole(seen.prompt)))

    def write(self, reading: frozenset[str]) -> Written:  # noqa: D102
        return ((self.name, ",".join(sorted(reading))),) if reading else ()

    def is_quick(self, prompt: PromptSpec) -> bool:
        """Whether reading takes well below a millisecond."""
        return personal_data.is_quick(_whole(prompt))


def _whole(prompt: PromptSpec) -> str:
    return "\n\n".join(message.content for message in prompt.messages)
