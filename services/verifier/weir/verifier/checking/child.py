"""The checking process: one JSON line in, one out, until its input ends."""

from __future__ import annotations

import json
import sys
from typing import Any

from weir.verifier.checking.patterns import choices_violation, grammar_violation, regex_violation
from weir.verifier.checking.schema import BrokenConstraintError, violation

MEMORY_BYTES = 2 * 2**30


def _limit_memory() -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _violation(kind: str, value: list[str], answer: str) -> str:
    if kind == "choices":
        return choices_violation(value, answer)
    check = {"json_schema": violation, "regex": regex_violation, "grammar": grammar_violation}[kind]
    return check(value[0], answer)


def _reply(request: dict[str, Any]) -> dict[str, str]:
    try:
        return {"violation": _violation(request["kind"], request["value"], request["answer"])}
    except BrokenConstraintError as error:
        return {"broken": str(error)}
    except MemoryError:
        return {"broken": "checking it takes too much memory"}


def main() -> None:
    """Answer requests from standard input on standard output; the first line out says that it is ready."""
    _limit_memory()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(_reply(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
