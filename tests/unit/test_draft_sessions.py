"""A draft frees its session and its reader however it ends, and accounts for what it drafted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.metering import metered
from tests.table_model import VOCABULARY, TableSession
from weir.common import conventions as names
from weir.common.config.model import Drafting, SlmTier
from weir.common.errors import ErrorCode, WeirError
from weir.common.prompts import PromptSpec
from weir.engines.base import Capability, ChatMessage, Engine, EngineInfo, FinishReason, Sampling, TokenInfo
from weir.slm_worker.completion import Account
from weir.slm_worker.draft_line import DraftedChunk, Method, Verdict
from weir.slm_worker.draft_stream import Chunking, draft
from weir.slm_worker.sessions import drafting_engine

PROMPT = [1, 2, 3, 4, 1, 2]
SPEC = PromptSpec((ChatMessage("user", "Go."),), Sampling(max_tokens=40, temperature=0.0), None)


class Yielding(TableSession):
    """Gives way to other tasks before each draft; breaks at the one ``breaks_at``."""

    breaks_at = -1
    drafts = 0

    async def draft(self, *args: Any, **kwargs: Any) -> list[TokenInfo]:
        await asyncio.sleep(0)
        self.drafts += 1
        if self.drafts == self.breaks_at:
            raise WeirError(ErrorCode.ENGINE_CRASHED)
        return await super().draft(*args, **kwargs)


class TableCodec:
    stop_ids = frozenset({0})

    def encode_chat(self, messages: object) -> list[int]:
        del messages
        return list(PROMPT)


class TableEngine:
    """An engine over the table model, with a tokenizer of ids; what it opens it remembers."""

    def __init__(self, *abilities: Capability, tokenizer: str = "t" * 64, context: int = 80) -> None:
        self.info = EngineInfo(
            "table", "openvino", "none", context, VOCABULARY, tokenizer, frozenset(abilities)
        )
        self.codec = TableCodec()
        self.opened: list[Yielding] = []
        self.breaks_at = -1

    async def open_session(self) -> Yielding:
        session = Yielding()
        session.breaks_at = self.breaks_at
        self.opened.append(session)
        return session


def _engine(*abilities: Capability, **fields: Any) -> Any:
    return TableEngine(*abilities, **fields)


def _tier(method: str, **run: Any) -> SlmTier:
    return SlmTier.model_validate({"drafting": {"method": method}, "run": run})


class Client:
    """Answers each chunk at random; then ends as ``ending`` says."""

    def __init__(self, choices: random.Random, ending: str) -> None:
        self._choices, self._ending = choices, ending
        self._left = 1000 if ending in {"left", "crashes"} else choices.randrange(6)
        self._chunks: asyncio.Queue[DraftedChunk] = asyncio.Queue()

    def see(self, chunk: DraftedChunk) -> None:
        self._chunks.put_nowait(chunk)

    async def verdicts(self) -> AsyncGenerator[Verdict, None]:
        while True:
            chunk = await self._chunks.get()
            self._left -= 1
            if self._left < 0:
                if self._ending == "ends":
                    return
                if self._ending == "fails":
                    raise WeirError(ErrorCode.STREAM_BROKEN)
                if self._ending == "lies":
                    yield Verdict(chunk.number or 0, 65)
                continue  # silent, until it is cancelled or left
            number = chunk.number or 0
            yield Verdict(number, len(chunk.tokens), (), next_tokens=self._choices.randrange(5))


async def _consume(engine: Any, client: Client, leave_after: int) -> None:
    chunking = Chunking(3, 2)
    async with aclosing(draft(engine, SPEC, client.verdicts(), chunking, _tier("auto"))) as drafted:
        async for item in drafted:
            if isinstance(item, DraftedChunk):
                client.see(item)
                leave_after -= 1
                if leave_after == 0:
                    return


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from(["ends", "fails", "lies", "silent", "left", "crashes"]),
    st.integers(0, 12),
)
def test_nothing_is_left_however_a_draft_ends(seed: int, ending: str, turns: int) -> None:
    async def run() -> None:
        engine, client = TableEngine(Capability.SESSION), Client(random.Random(seed), ending)
        engine.breaks_at = turns % 3 + 1 if ending == "crashes" else -1
        leave_after = turns % 4 + 1 if ending == "left" else 0
        task = asyncio.create_task(_consume(engine, client, leave_after))
        if ending == "silent":
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
        async with asyncio.timeout(5):
            [outcome] = await asyncio.gather(task, return_exceptions=True)
        assert outcome is None or isinstance(outcome, WeirError | asyncio.CancelledError)
        assert all(session.closed for session in engine.opened)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())


async def _whole(engine: Any, tier: SlmTier) -> tuple[list[DraftedChunk], Account]:
    """Accept everything; where nothing was drafted, say 5."""
    asked: asyncio.Queue[DraftedChunk] = asyncio.Queue()

    async def verdicts() -> AsyncGenerator[Verdict, None]:
        while True:
            chunk = await asked.get()
            yield Verdict(chunk.number or 0, len(chunk.tokens), () if chunk.tokens else (5,))

    chunks: list[DraftedChunk] = []
    async with asyncio.timeout(5), aclosing(draft(engine, SPEC, verdicts(), Chunking(4, 1), tier)) as drafted:
        async for item in drafted:
            if isinstance(item, Account):
                return chunks, item
            chunks.append(item)
            asked.put_nowait(item)
    raise AssertionError("the draft ended without its account")


async def test_account_counts_what_was_drafted_and_what_stood() -> None:
    chunks, account = await _whole(_engine(Capability.SESSION), _tier("model", output_usd_per_million=1e6))
    drafted = sum(len(chunk.tokens) for chunk in chunks)
    assert (account.drafted_tokens, account.accepted_tokens) == (drafted, drafted)
    assert account.cost_usd == pytest.approx(drafted)
    assert account.prompt_tokens == len(PROMPT)


async def test_copies_are_free_and_need_no_session() -> None:
    engine = _engine()
    chunks, account = await _whole(engine, _tier("lookup", input_usd_per_million=1.0))
    assert {chunk.method for chunk in chunks} == {Method.LOOKUP}
    assert not engine.opened
    assert account.drafted_tokens == account.accepted_tokens > 0
    assert account.cost_usd == 0.0
    assert account.finish_reason is FinishReason.LENGTH


async def test_prompt_that_fills_the_context_is_refused() -> None:
    engine = _engine(Capability.SESSION, context=len(PROMPT))
    with pytest.raises(WeirError) as caught:
        await _whole(engine, _tier("auto"))
    assert caught.value.code is ErrorCode.CONTEXT_TOO_LONG
    assert not engine.opened


@pytest.mark.parametrize(
    ("abilities", "wanted", "drafts"),
    [
        ([Capability.SESSION], "auto", "auto"),
        ([Capability.SESSION], "model", "model"),
        ([Capability.SESSION], "lookup", "lookup"),
        ([], "auto", "lookup"),
        ([], "lookup", "lookup"),
    ],
)
def test_engine_drafts_as_it_can(abilities: list[Capability], wanted: Any, drafts: str) -> None:
    assert drafting_engine(_engine(*abilities), wanted)[1] == drafts


@pytest.mark.parametrize(("wanted", "tokenizer"), [("model", "t"), ("auto", ""), ("lookup", "")])
def test_engine_that_cannot_draft_says_so(wanted: Any, tokenizer: str) -> None:
    with pytest.raises(WeirError) as caught:
        drafting_engine(cast("Engine", TableEngine(tokenizer=tokenizer)), wanted)
    assert caught.value.code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize("lengths", [{"min_ngram": 5}, {"max_ngram": 17}, {"min_ngram": 0}])
def test_lengths_of_match_that_cannot_be_are_refused(lengths: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        Drafting(**lengths)


async def test_metrics_tell_tokens_by_method_and_what_was_void() -> None:
    async def verdicts() -> AsyncGenerator[Verdict, None]:
        for number in (0, 2):
            await asked.get()
            await asked.get()
            yield Verdict(number, 0, (5,))

    asked: asyncio.Queue[DraftedChunk] = asyncio.Queue()
    engine, drafted = _engine(Capability.SESSION), 0
    engine.codec.stop_ids = frozenset()
    metered()
    stream = draft(engine, SPEC, verdicts(), Chunking(3, 2), _tier("model"))
    async with asyncio.timeout(5), aclosing(stream) as items:
        async for item in items:
            if isinstance(item, DraftedChunk):
                asked.put_nowait(item)
                drafted += len(item.tokens)
    metrics = metered()
    assert metrics.by(names.DRAFT_TOKENS, names.DRAFT_METHOD) == {"model": drafted}
    assert metrics.count(names.DRAFT_DURATION, **{names.DRAFT_METHOD: "model"}) == drafted / 3
    assert metrics.total(names.DRAFT_VOIDED) == 2
