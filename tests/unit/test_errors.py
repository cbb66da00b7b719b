"""The catalog is complete, and errors survive the way through a gRPC status."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2

from weir.common.errors import CATALOG, ErrorCode, WeirError
from weir.common.errors.grpc import to_status, translate


def test_catalog_has_every_code() -> None:
    assert set(CATALOG) == set(ErrorCode)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_public_sentence_says_what_to_do(code: ErrorCode) -> None:
    message = CATALOG[code].message
    assert message.endswith(".")
    assert ";" in message
    assert CATALOG[code].status is not grpc.StatusCode.OK


def test_internal_detail_stays_inside() -> None:
    status = to_status(WeirError(ErrorCode.INTERNAL, internal="secret path"), "r1")
    assert "secret" not in str(status)


def test_unknown_exception_becomes_internal_without_its_text() -> None:
    error = translate(RuntimeError("key=abc"))
    assert error.code is ErrorCode.INTERNAL
    assert "abc" not in str(to_status(error))


def test_fields_and_retry_travel_as_details() -> None:
    error = WeirError(ErrorCode.QUEUE_FULL, fields={"a.b": "too big"}, retry_after_s=1.5)
    details = {d.type_url.rpartition(".")[2]: d for d in to_status(error).details}
    retry, bad = error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    details["RetryInfo"].Unpack(retry)
    details["BadRequest"].Unpack(bad)
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert bad.field_violations[0].field == "a.b"
