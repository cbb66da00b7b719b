"""Output constraints: what is refused, how it is said, and that nothing takes long."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

import pytest

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Constraint
from weir.engines.text.codec import Codec, load_codec
from weir.engines.text.constraints import ConstraintChecker

NESTED = '{"properties": {"a": ' * 2000 + "{}" + "}}" * 2000
WIDE = json.dumps(
    {"type": "object", "properties": {f"k{i}": {"type": "integer", "minimum": i} for i in range(2000)}}
)


@pytest.fixture(scope="module")
def codec(embedded_model: Path) -> Codec:
    return load_codec(embedded_model)


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json_schema", ("{",)),
        Constraint("json_schema", ('{"type": "nope"}',)),
        Constraint("json_schema", ("false",)),
        Constraint("json_schema", ('{"enum": []}',)),
        Constraint("json_schema", ('{"allOf": [{"type": "string"}, {"type": "integer"}]}',)),
        Constraint("json_schema", (NESTED,)),
        Constraint("regex", ("(abc",)),
        Constraint("regex", (r"[^\s\S]",)),
        Constraint("regex", ("a" * 40_000,)),
        Constraint("grammar", ("root ::= missing",)),
        Constraint("grammar", ("@@@",)),
    ],
    ids=lambda constraint: f"{constraint.kind}:{constraint.value[0][:20]}",
)
async def test_what_cannot_be_compiled_or_met_is_refused_with_its_field(
    codec: Codec, constraint: Constraint
) -> None:
    with pytest.raises(WeirError) as raised:
        await ConstraintChecker(codec).check(constraint)
    assert raised.value.code is ErrorCode.INVALID_CONSTRAINT
    [(path, reason)] = raised.value.fields.items()
    assert path == f"prompt.output.{constraint.kind}"
    assert 10 < len(reason) < 400


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json_schema", ("true",)),
        Constraint("json_schema", ('{"oneOf": [{"type": "string"}, {"type": "integer"}]}',)),
        Constraint("json_schema", ('{"$ref": "#/$defs/t", "$defs": {"t": {"type": "boolean"}}}',)),
        Constraint("regex", ("(a|b|c){1,2000}(d|e){3,4000}",)),
        Constraint("choices", tuple(f"choice {i}" for i in range(3000))),
        Constraint("grammar", ('root ::= "a" | "b" root',)),
        Constraint("grammar", ('start: "a" | "b" start',)),
    ],
    ids=lambda constraint: f"{constraint.kind}:{constraint.value[0][:20]}",
)
async def test_what_can_be_met_passes(codec: Codec, constraint: Constraint) -> None:
    await ConstraintChecker(codec).check(constraint)


@pytest.mark.parametrize("schema", [WIDE, '{"type": "string", "pattern": "^(.{1,500}x){1,500}$"}'])
async def test_an_evil_schema_takes_bounded_time(codec: Codec, schema: str) -> None:
    codec.llguidance_tokenizer()
    start = time.process_time()
    with contextlib.suppress(WeirError):
        await ConstraintChecker(codec).check(Constraint("json_schema", (schema,)))
    assert time.process_time() - start < 3


async def test_a_verdict_is_remembered(codec: Codec) -> None:
    checker = ConstraintChecker(codec)
    constraint = Constraint("json_schema", (WIDE,))
    times = []
    for _ in range(2):
        start = time.perf_counter()
        with contextlib.suppress(WeirError):
            await checker.check(constraint)
        times.append(time.perf_counter() - start)
    assert times[1] < times[0] / 5
