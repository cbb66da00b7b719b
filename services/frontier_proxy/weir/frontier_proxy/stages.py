"""What happens to an answer's text on its way to the client, piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from weir.common.errors import ErrorCode, WeirError
from weir.frontier_proxy.providers.schemas import CHOICE_KEY

_PLACEHOLDER = re.compile(r"\[[A-Z]+_\d+\]")
_PARTIAL_PLACEHOLDER = re.compile(r"\[(?:[A-Z]+(?:_\d*)?)?\Z")


class Stage(Protocol):
    """A step that may hold text back until it knows what it is."""

    def feed(self, text: str) -> str:
        """Take new text and return what may be passed on."""
        ...

    def flush(self) -> str:
        """Return what is still held, at the end."""
        ...


class Pipeline:
    """Several stages as one."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self._stages = tuple(stages)

    def feed(self, text: str) -> str:
        """Pass ``text`` through all stages."""
        for stage in self._stages:
            text = stage.feed(text)
        return text

    def flush(self) -> str:
        """End every stage in turn."""
        text = ""
        for stage in self._stages:
            text = stage.feed(text) + stage.flush()
        return text


def held_back(text: str, needles: Iterable[str]) -> int:
    """Return how many characters at the end of ``text`` may be the start of one of ``needles``."""
    longest = 0
    for needle in needles:
        for size in range(min(len(needle) - 1, len(text)), longest, -1):
            if text.endswith(needle[:size]):
                longest = size
                break
    return longest


class Restore:
    """Puts originals back for placeholders of ``Redactor``, also where one came in several pieces."""

    def __init__(self, originals: Mapping[str, str]) -> None:
        self._originals = dict(originals)
        self._longest = max(map(len, self._originals))
        self._held = ""

    def feed(self, text: str) -> str:
        """See ``Stage.feed``."""
        text, cut = self._held + text, None
        if partial := _PARTIAL_PLACEHOLDER.search(text, max(0, len(text) - self._longest + 1)):
            cut = partial.start()
        self._held = text[cut:] if partial else ""
        return _PLACEHOLDER.sub(lambda match: self._originals.get(match.group(), match.group()), text[:cut])

    def flush(self) -> str:
        """See ``Stage.flush``."""
        held, self._held = self._held, ""
        return held


class Owed:
    """Puts text that was told to the provider, and not yet to the client, before what the provider says."""

    def __init__(self, text: str) -> None:
        self._text = text

    def feed(self, text: str) -> str:
        """See ``Stage.feed``."""
        return self.flush() + text if text else ""

    def flush(self) -> str:
        """See ``Stage.flush``."""
        owed, self._text = self._text, ""
        return owed


class Stop:
    """Ends the text before the first stop string; ``hit`` says that one came."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._pattern = re.compile("|".join(map(re.escape, sorted(stops, key=len, reverse=True))))
        self._held = ""
        self.hit = False

    @property
    def needed(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._stops)

    def feed(self, text: str) -> str:
        """See ``Stage.feed``."""
        if self.hit:
            return ""
        text = self._held + text
        cut = len(text) - held_back(text, self._stops)
        match = self._pattern.search(text)
        # A longer one that began before a short one may yet come.
        if match and match.start() <= cut:
            return self._end(text, match)
        self._held = text[cut:]
        return text[:cut]

    def flush(self) -> str:
        """See ``Stage.flush``."""
        held, self._held = self._held, ""
        match = self._pattern.search(held) if held else None
        return self._end(held, match) if match else held

    def _end(self, text: str, match: re.Match[str]) -> str:
        self.hit, self._held = True, ""
        return text[: match.start()]


class Unwrap:
    """Takes the choice out of the JSON object that providers give it in (see ``schemas``)."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def feed(self, text: str) -> str:
        """See ``Stage.feed``; the text comes once the object is complete."""
        self._parts.append(text)
        return ""

    def flush(self) -> str:
        """See ``Stage.flush``. Raises WeirError PROVIDER_FAILED where no choice came."""
        try:
            choice = json.loads("".join(self._parts))[CHOICE_KEY]
        except (ValueError, KeyError, TypeError):
            choice = None
        if not isinstance(choice, str):
            raise WeirError(ErrorCode.PROVIDER_FAILED, "The provider gave none of the choices.")
        return choice
