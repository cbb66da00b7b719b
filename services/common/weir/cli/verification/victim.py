"""A client that waits to be killed: ``python -m weir.cli.verification.victim TARGET STREAMS``."""

from __future__ import annotations

import asyncio
import sys

from weir.cli.verification.streams import prompt
from weir.common.calls import connect
from weir.v1 import types_pb2, verifier_pb2, verifier_pb2_grpc


async def main(target: str, count: int) -> None:
    """Open the streams, read what comes first of each, say so, and read no more."""
    wanted = verifier_pb2.GenerateVerifiedRequest(
        prompt=prompt("Count from one to one thousand.", 512), residency=types_pb2.RESIDENCY_LOCAL_ONLY
    )
    async with connect(target) as channel:
        stub = verifier_pb2_grpc.VerifierServiceStub(channel)
        calls = [stub.GenerateVerified(wanted) for _ in range(count)]
        # Some may be refused, where all sessions are taken.
        await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
        print("open", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
