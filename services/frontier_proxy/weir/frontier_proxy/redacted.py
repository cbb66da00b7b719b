"""A request without the personal data in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from weir.engines.base import ChatMessage, Constraint
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.frontier_proxy.redaction import Redactor, unfinished

# What finds the names in a text, see ``names.NameFinder``.
Names = Callable[[str], list[str]]
# The parts of a JSON Schema that hold text of the caller's own.
_PROSE = frozenset({"title", "description", "const", "default", "enum", "examples"})


def names_of(folder: Path | None) -> Names | None:
    """Open the model that finds names, where there is one.

    Raises:
        ConfigError: it cannot be used.
    """
    if folder is None:
        return None
    # ONNX Runtime is a big library for a process that may never use it.
    from weir.frontier_proxy.names import NameFinder

    return NameFinder(folder)


def redacted(
    request: ProviderRequest, names: Names | None = None, known: dict[str, list[str]] | None = None
) -> tuple[ProviderRequest, dict[str, str], str]:
    """Replace personal data everywhere in ``request``, and names where there is something that finds them.

    ``known`` has the names in texts that were read before; it gets those of the others.

    Returns also the originals by placeholder, and what completes one of them at the prefix's end.
    """
    constraint = request.constraint
    values = constraint.value if constraint else ()
    texts = [*(m.content for m in request.messages), request.prefix, *request.sampling.stop]
    found = _found((*texts, *_prose(constraint)), names, {} if known is None else known) if names else []
    redactor = Redactor([*texts, *values], found)
    messages = tuple(ChatMessage(m.role, redactor.redact(m.content)) for m in request.messages)
    owed = unfinished(request.prefix, redactor.originals.values())
    prefix = redactor.redact(request.prefix + owed)
    sampling = replace(request.sampling, stop=tuple(map(redactor.redact, request.sampling.stop)))
    changed = _constraint(constraint, redactor) if constraint else None
    if redactor.notice:
        messages = (ChatMessage("system", redactor.notice), *messages)
    request = replace(request, messages=messages, prefix=prefix, sampling=sampling, constraint=changed)
    return request, redactor.originals, owed


def _found(texts: Sequence[str], names: Names, known: dict[str, list[str]]) -> list[str]:
    for text in texts:
        if text not in known:
            known[text] = names(text)
    return [name for text in texts for name in known[text]]


def _schema(constraint: Constraint) -> Any:
    """Return the parsed schema, ``None`` where it is none."""
    try:
        return json.loads(constraint.value[0])
    except ValueError:
        return None


def _prose(constraint: Constraint | None) -> Iterator[str]:
    """Yield what of a constraint may hold names: its structure would only look like some."""
    if constraint is None:
        return
    if constraint.kind != "json_schema":
        yield from constraint.value
        return
    yield from _texts(_schema(constraint), prose=False)


def _texts(node: Any, *, prose: bool) -> Iterator[str]:
    if isinstance(node, str):
        yield from (node,) if prose else ()
    elif isinstance(node, list):
        for entry in node:
            yield from _texts(entry, prose=prose)
    elif isinstance(node, dict):
        for key, entry in node.items():
            yield from _texts(entry, prose=prose or key in _PROSE)


def _constraint(constraint: Constraint, redactor: Redactor) -> Constraint:
    if constraint.kind != "json_schema":
        return replace(constraint, value=tuple(map(redactor.redact, constraint.value)))
    schema = _schema(constraint)
    return (
        constraint if schema is None else replace(constraint, value=(json.dumps(_strings(schema, redactor)),))
    )


def _strings(node: Any, redactor: Redactor) -> Any:
    """Redact the strings of a schema and leave its numbers and its structure alone."""
    if isinstance(node, dict):
        return {key: _strings(value, redactor) for key, value in node.items()}
    if isinstance(node, list):
        return [_strings(value, redactor) for value in node]
    return redactor.redact(node) if isinstance(node, str) else node
