"""The typed async client; needs grpcio and protobuf alone."""

from weir.client.client import Generation, WeirClient
from weir.client.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    WeirClientError,
)
from weir.client.events import (
    Decision,
    Delta,
    Event,
    Exclusion,
    Finished,
    Handoff,
    Reason,
    Residency,
    Source,
    Tier,
    Token,
    Usage,
)
from weir.client.requests import Message, Output, Policy, Sampling

__all__ = [
    "DeadlineExceeded",
    "Decision",
    "Delta",
    "Event",
    "Exclusion",
    "FailedPrecondition",
    "Finished",
    "Generation",
    "Handoff",
    "InvalidRequest",
    "Message",
    "NotFound",
    "Output",
    "PermissionDenied",
    "Policy",
    "Reason",
    "Residency",
    "ResourceExhausted",
    "Sampling",
    "Source",
    "Tier",
    "Token",
    "Unauthenticated",
    "Unavailable",
    "Usage",
    "WeirClient",
    "WeirClientError",
]
