"""Answers as a client gets them, with the times at which they came."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from weir.common.errors.grpc import from_rpc_error
from weir.v1 import slm_worker_pb2, types_pb2, verifier_pb2


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer; times in seconds. ``decoded`` tokens came in ``decode_s`` after the first ones."""

    ids: tuple[int, ...]
    text: str
    first_s: float
    total_s: float
    decoded: int
    decode_s: float
    finished: Any

    @property
    def rate(self) -> float:
        """Tokens a second from the first to the last."""
        return self.decoded / self.decode_s if self.decode_s else 0.0


def prompt(text: str, max_tokens: int) -> types_pb2.Prompt:
    """Return a greedy prompt."""
    message = types_pb2.Message(role=types_pb2.ROLE_USER, content=text)
    sampling = types_pb2.SamplingParams(max_tokens=max_tokens, temperature=0.0)
    return types_pb2.Prompt(messages=[message], sampling=sampling)


async def verified(stub: Any, wanted: types_pb2.Prompt) -> Answer:
    """Have the hybrid tier answer."""
    request = verifier_pb2.GenerateVerifiedRequest(prompt=wanted, residency=types_pb2.RESIDENCY_LOCAL_ONLY)
    return await taken(lambda: stub.GenerateVerified(request))


async def complete(stub: Any, wanted: types_pb2.Prompt) -> Answer:
    """Have a worker answer by itself."""
    return await taken(lambda: stub.Complete(slm_worker_pb2.CompleteRequest(prompt=wanted)))


async def taken(call: Callable[[], AsyncIterable[Any]]) -> Answer:
    """Read a stream of deltas to its end.

    Raises:
        WeirError: what ended the stream.
        EOFError: it has no last word.
    """
    started = time.perf_counter()
    ids: list[int] = []
    parts: list[str] = []
    finished, early, first, last = None, 0, started, started
    try:
        async for response in call():
            if response.HasField("finished"):
                finished = response.finished
                continue
            parts.append(response.delta.text)
            if response.delta.tokens:
                last = time.perf_counter()
                if not ids:
                    first, early = last, len(response.delta.tokens)
                ids += [token.id for token in response.delta.tokens]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    if finished is None:
        raise EOFError("the stream ended without its last word")
    ended = time.perf_counter()
    return Answer(
        tuple(ids), "".join(parts), first - started, ended - started, len(ids) - early, last - first, finished
    )
