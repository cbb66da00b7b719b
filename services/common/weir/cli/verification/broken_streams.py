"""Streams that end otherwise than well, each in a way of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from weir.cli.pipes import spawn
from weir.cli.verification.installation import Running
from weir.cli.verification.streams import prompt
from weir.common.calls import connect
from weir.v1 import slm_worker_pb2, slm_worker_pb2_grpc, types_pb2, verifier_pb2, verifier_pb2_grpc

TEXT, TOKENS = "Write a long story about a lighthouse.", 128
VICTIM_STREAMS = 5
# What a stream raises that has ended already: refused, where all sessions are taken.
_OVER = (grpc.aio.AioRpcError, asyncio.InvalidStateError)


class Breaker:
    """Opens streams at a verifier and at its worker and breaks them off.

    Every method returns how many streams it took part in, and what became of them.
    """

    def __init__(self, verifier: Running, worker: Running, seed: int) -> None:
        self._verifier, self._worker = verifier, worker
        self._random = random.Random(seed)

    async def cancelled(self) -> str:
        """Cancel an answer after some of its events."""
        async with connect(self._verifier.target) as channel:
            call = self._call(channel)
            await self._read(call)
            call.cancel()
            return "cancelled"

    async def closed(self) -> str:
        """Close the channel below an answer."""
        async with connect(self._verifier.target) as channel:
            await self._read(self._call(channel))
        return "channel closed"

    async def late(self) -> str:
        """Run into a deadline."""
        async with connect(self._verifier.target) as channel:
            return await _status(self._call(channel, timeout=self._random.uniform(0.01, 0.5)))

    async def refused(self) -> str:
        """Ask for what is refused."""
        async with connect(self._verifier.target) as channel:
            return await _status(self._call(channel, self._random.choice(_REFUSED)))

    async def drafts_left(self) -> str:
        """Take a chunk from the worker and leave without a verdict."""
        async with connect(self._worker.target) as channel:
            (await self._drafting(channel)).cancel()
        return "draft left"

    async def verdict_wrong(self) -> str:
        """Give the worker a verdict on a chunk that it never sent."""
        async with connect(self._worker.target) as channel:
            call = await self._drafting(channel)
            ack = slm_worker_pb2.DraftAck(sequence=77, accepted=3, correction=[1])
            with contextlib.suppress(*_OVER):
                await call.write(slm_worker_pb2.DraftRequest(ack=ack))
            return await _status(call)

    async def foreign_drafts(self) -> str:
        """Send the verifier drafts of another vocabulary."""
        async with connect(self._verifier.target) as channel:
            call = verifier_pb2_grpc.VerifierServiceStub(channel).Verify()
            start = verifier_pb2.VerifyStart(prompt=prompt(TEXT, TOKENS), tokenizer_sha256="another")
            with contextlib.suppress(*_OVER):
                await call.write(verifier_pb2.VerifyRequest(start=start))
            return await _status(call)

    async def killed(self) -> str:
        """Kill a client process that has several answers open."""
        command = (
            sys.executable,
            "-m",
            "weir.cli.verification.victim",
            self._verifier.target,
            str(VICTIM_STREAMS),
        )
        async with spawn(command, None) as (process, output):
            await output.readuntil(b"open")
            process.kill()
            await process.wait()
        return "client killed"

    def _call(
        self, channel: Any, wanted: types_pb2.Prompt | None = None, timeout: float | None = None
    ) -> Any:
        request = verifier_pb2.GenerateVerifiedRequest(
            prompt=wanted or prompt(TEXT, TOKENS), residency=types_pb2.RESIDENCY_LOCAL_ONLY
        )
        return verifier_pb2_grpc.VerifierServiceStub(channel).GenerateVerified(request, timeout=timeout)

    async def _drafting(self, channel: Any) -> Any:
        call = slm_worker_pb2_grpc.SlmWorkerServiceStub(channel).Draft()
        start = slm_worker_pb2.DraftStart(prompt=prompt(TEXT, TOKENS), chunk_tokens=4, chunks_ahead=1)
        with contextlib.suppress(*_OVER):
            await call.write(slm_worker_pb2.DraftRequest(start=start))
            await call.read()
        return call

    async def _read(self, call: Any) -> None:
        with contextlib.suppress(*_OVER):
            for _ in range(self._random.randrange(6)):
                await call.read()

    @property
    def kinds(self) -> list[Callable[[], Awaitable[str]]]:
        """All ways but the killing of processes, which takes a process each."""
        return [
            self.cancelled,
            self.closed,
            self.late,
            self.refused,
            self.drafts_left,
            self.verdict_wrong,
            self.foreign_drafts,
        ]


async def _status(call: Any) -> str:
    """Read to the end and return its status."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    code: grpc.StatusCode = await call.code()
    return code.name


def _refused() -> list[types_pb2.Prompt]:
    hot, grammar = prompt(TEXT, TOKENS), prompt(TEXT, TOKENS)
    hot.sampling.temperature = 99.0
    grammar.output.regex = "(unclosed"
    return [types_pb2.Prompt(), hot, grammar, prompt("word " * 10_000, TOKENS)]


_REFUSED = _refused()
