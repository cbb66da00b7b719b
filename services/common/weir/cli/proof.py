"""The proof of `weir up`: one real prompt the whole way, before anything is called serving."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from weir.cli.credentials import credentials
from weir.cli.up_display import Display
from weir.client import Delta, Sampling, WeirClient, WeirClientError

PROMPT = "What is the capital of France? Answer in one sentence."
SAMPLING = Sampling(max_tokens=32)
TIMEOUT_S = 60.0
# The router looks for services that were not there yet at growing intervals.
SETTLE_S = 6.0
POLL_S = 0.1


async def prove(target: str, display: Display) -> bool:
    """Show what the router at ``target`` answers; ``False`` where it does not."""
    display.asked(PROMPT)
    try:
        async with WeirClient(target, metadata=credentials(os.environ)) as client:
            with suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_S):
                    await _every_tier(client)
            async with client.generate(PROMPT, sampling=SAMPLING, timeout=TIMEOUT_S) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        display.answer(event.text)
    except WeirClientError as error:
        display.unanswered(error.message)
        return False
    display.answer("\n")
    return True


async def _every_tier(client: WeirClient) -> None:
    """Return once the router has found all services that it is configured for."""
    while True:
        decision = await client.route(PROMPT)
        if all(exclusion.reason.code != "unavailable" for exclusion in decision.exclusions):
            return
        await asyncio.sleep(POLL_S)
