"""Reads google.rpc status details with protobuf alone.

The messages are described in a descriptor pool of their own: `googleapis-common-protos` registers the same
names in the default one, and the base install does without it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory

TRAILER = "grpc-status-details-bin"
_Field = descriptor_pb2.FieldDescriptorProto


def _add(file: descriptor_pb2.FileDescriptorProto, name: str, *fields: tuple[str, int, str]) -> None:
    message = file.message_type.add(name=name)
    for field_name, number, kind in fields:
        repeated = kind.startswith("*")
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        added = message.field.add(name=field_name, number=number, label=label)
        kind = kind.lstrip("*")
        if kind.startswith("."):
            added.type, added.type_name = _Field.TYPE_MESSAGE, kind
        else:
            added.type = _Field.TYPE_INT32 if kind == "int32" else _Field.TYPE_STRING


@cache
def _message(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, duration_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    imports = [any_pb2.DESCRIPTOR.name, duration_pb2.DESCRIPTOR.name]
    file = descriptor_pb2.FileDescriptorProto(
        name="weir/client/status.proto", package="google.rpc", syntax="proto3", dependency=imports
    )
    _add(
        file,
        "Status",
        ("code", 1, "int32"),
        ("message", 2, "string"),
        ("details", 3, "*.google.protobuf.Any"),
    )
    _add(file, "Entry", ("key", 1, "string"), ("value", 2, "string"))
    _add(
        file,
        "ErrorInfo",
        ("reason", 1, "string"),
        ("domain", 2, "string"),
        ("metadata", 3, "*.google.rpc.Entry"),
    )
    _add(file, "RetryInfo", ("retry_delay", 1, ".google.protobuf.Duration"))
    _add(file, "FieldViolation", ("field", 1, "string"), ("description", 2, "string"))
    _add(file, "BadRequest", ("field_violations", 1, "*.google.rpc.FieldViolation"))
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))


def read_details(trailer: bytes) -> dict[str, Any]:
    """Parse the trailer into the known detail messages by their short names; unknown ones are left out."""
    known = ("ErrorInfo", "RetryInfo", "BadRequest")
    found: dict[str, Any] = {}
    for detail in _message("Status").FromString(trailer).details:
        name = detail.type_url.rpartition(".")[2]
        if name in known:
            found[name] = _message(name).FromString(detail.value)
    return found
