"""The tokens of an answer, as its tenant's limit counts them: of all tiers that read and wrote."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from weir.common.errors import WeirError
from weir.common.tenancy.limits import TokenUse
from weir.router.domain import Finished
from weir.router.generate import Event
from weir.v1 import types_pb2


async def counted(events: AsyncGenerator[Event], use: TokenUse) -> AsyncGenerator[Event]:
    """Pass an answer's events on and note what they use; a request that was refused used nothing."""
    begun = False
    try:
        async with aclosing(events) as answer:
            async for event in answer:
                begun = True
                if isinstance(event, types_pb2.TokenDelta):
                    use.wrote(event.text)
                elif isinstance(event, Finished):
                    use.settle(sum(usage.prompt_tokens + usage.completion_tokens for usage in event.usage))
                yield event
    except WeirError:
        if not begun:
            use.settle(0)
        raise
