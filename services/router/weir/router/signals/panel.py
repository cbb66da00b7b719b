"""All signals of one request, read together."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from weir.common.prompts import PromptSpec
from weir.router.classifier.base import DomainShare
from weir.router.domain import Tier
from weir.router.signals.answerability import Answerability
from weir.router.signals.base import Observation
from weir.router.signals.conversation import Conversation, ConversationMemory
from weir.router.signals.domains import Domains
from weir.router.signals.gain import Gain
from weir.router.signals.language import Language, PromptLanguage
from weir.router.signals.load import Load, TierLoad
from weir.router.signals.personal_data import PersonalData
from weir.router.signals.size import PromptSize, Size
from weir.router.signals.structure import Structure

# Readings of the text alone, kept for prompts that come again.
MAX_KEPT = 4_096


@dataclass(frozen=True, slots=True)
class TextReadings:
    """What the words themselves tell; read before the classifier is asked."""

    language: Language
    personal_data: frozenset[str]


@dataclass(frozen=True, slots=True)
class Readings:
    """What every signal says of one request."""

    complexity: float
    gain: Mapping[Tier, float]
    size: Size
    constraint: str | None
    domains: tuple[DomainShare, ...]
    text: TextReadings
    conversation: Conversation
    load: Mapping[Tier, Load]


class Panel:
    """The signals, and a bounded memory of what they said of a text.

    Args:
        recovered_gain: see ``Gain``.
        memory: of conversations.
    """

    def __init__(self, recovered_gain: float, memory: ConversationMemory) -> None:
        self._complexity, self._gain = Answerability(), Gain(recovered_gain)
        self._size, self._structure, self._domains = PromptSize(), Structure(), Domains()
        self._language, self._personal_data = PromptLanguage(), PersonalData()
        self._conversation, self._load = memory, TierLoad()
        self._kept: OrderedDict[bytes, TextReadings] = OrderedDict()

    async def read_text(self, seen: Observation) -> TextReadings:
        """Read the text: at once where that is quick, in a thread where it is long or full of numbers."""
        key = _digest(seen.prompt)
        kept = self._kept.get(key)
        if kept is None:
            quick = self._personal_data.is_quick(seen.prompt)
            kept = self.read_now(seen) if quick else await asyncio.to_thread(self.read_now, seen)
            if seen.facts.policy.no_store:
                return kept
            self._kept[key] = kept
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return kept

    def read(self, seen: Observation, text: TextReadings) -> Readings:
        """Read the others."""
        return Readings(
            complexity=self._complexity.read(seen),
            gain=self._gain.read(seen),
            size=self._size.read(seen),
            constraint=self._structure.read(seen),
            domains=self._domains.read(seen),
            text=text,
            conversation=self._conversation.read(seen),
            load=self._load.read(seen),
        )

    def write(self, readings: Readings) -> tuple[tuple[str, str], ...]:
        """Write all readings as names and values; no name comes twice."""
        return (
            *self._complexity.write(readings.complexity),
            *self._gain.write(readings.gain),
            *self._size.write(readings.size),
            *self._structure.write(readings.constraint),
            *self._domains.write(readings.domains),
            *self._language.write(readings.text.language),
            *self._personal_data.write(readings.text.personal_data),
            *self._conversation.write(readings.conversation),
            *self._load.write(readings.load),
        )

    def read_now(self, seen: Observation) -> TextReadings:
        """Read the text here, whatever it takes; from any thread."""
        return TextReadings(self._language.read(seen), self._personal_data.read(seen))


def _digest(prompt: PromptSpec) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for message in prompt.messages:
        content = message.content.encode(errors="replace")
        digest.update(f"{message.role} {len(content)} ".encode())
        digest.update(content)
    return digest.digest()
