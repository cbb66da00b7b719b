"""What every engine backend must keep. A backend's test module subclasses this and gives an ``engine``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import (
    Capability,
    ChatMessage,
    Constraint,
    Engine,
    FinishReason,
    GenerationRequest,
    Health,
    Sampling,
    SessionEngine,
    Step,
)

QUESTION = "What is the capital of France?"
STORY = "Tell me a story about a fox and a river."
PERSON = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "maximum": 99},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)


def ask(
    text: str = QUESTION, *turns: ChatMessage, max_tokens: int | None = 32, **sampling: object
) -> GenerationRequest:
    """A greedy request by default."""
    options: dict[str, object] = {"temperature": 0.0, "max_tokens": max_tokens} | sampling
    return GenerationRequest("r", (ChatMessage("user", text), *turns), Sampling(**options))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Answer:
    """A whole generation."""

    text: str
    steps: tuple[Step, ...]

    @property
    def last(self) -> Step:
        return self.steps[-1]

    @property
    def ids(self) -> list[int]:
        return [token.id for step in self.steps for token in step.tokens]

    @property
    def logprobs(self) -> list[float | None]:
        return [token.logprob for step in self.steps for token in step.tokens]


async def run(engine: Engine, request: GenerationRequest) -> Answer:
    async with aclosing(engine.generate(request)) as stream:
        steps = [step async for step in stream]
    return Answer("".join(step.text for step in steps), tuple(steps))


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for what another process tells; there is no event to wait on in the protocol."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def need(engine: Engine, *abilities: Capability) -> None:
    if missing := [ability for ability in abilities if ability not in engine.info.capabilities]:
        pytest.skip(f"engine {engine.info.engine} does not claim {', '.join(missing)}")


class EngineContract:
    """The behaviors; pytest runs them for each subclass."""

    async def test_deltas_are_parts_and_only_the_last_step_ends(self, engine: Engine) -> None:
        answer = await run(engine, ask(STORY))
        assert len(answer.steps) > 3
        assert all(step.finish_reason is None for step in answer.steps[:-1])
        assert answer.last.finish_reason is not None
        assert len(answer.text) > 40

    async def test_the_model_ends_its_answer_itself(self, engine: Engine) -> None:
        answer = await run(engine, ask(max_tokens=64))
        assert answer.last.finish_reason is FinishReason.STOP
        assert answer.last.completion_tokens < 64
        assert "Paris" in answer.text

    async def test_max_tokens_ends_with_length(self, engine: Engine) -> None:
        answer = await run(engine, ask(STORY, max_tokens=7))
        assert answer.last.finish_reason is FinishReason.LENGTH
        assert answer.last.completion_tokens == 7
        assert answer.last.prompt_tokens > 5

    async def test_text_ends_before_a_stop_string(self, engine: Engine) -> None:
        whole = (await run(engine, ask(STORY, max_tokens=40))).text
        stop = whole[len(whole) // 2 :][:4]
        answer = await run(engine, ask(STORY, max_tokens=40, stop=(stop,)))
        assert answer.last.finish_reason is FinishReason.STOP
        assert answer.text == whole[: whole.index(stop)]

    async def test_greedy_answers_are_repeatable(self, engine: Engine) -> None:
        first, second = [await run(engine, ask(STORY)) for _ in range(2)]
        assert first.text == second.text

    async def test_a_seed_gives_the_same_text_again(self, engine: Engine) -> None:
        need(engine, Capability.SEED)
        hot = {"temperature": 1.0, "top_p": 0.95, "max_tokens": 24}
        first, second, other = [await run(engine, ask(STORY, seed=seed, **hot)) for seed in (7, 7, 8)]  # type: ignore[arg-type]
        assert first.text == second.text
        assert first.text != other.text

    async def test_no_seed_gives_different_texts(self, engine: Engine) -> None:
        texts = {(await run(engine, ask(STORY, temperature=1.2, max_tokens=24))).text for _ in range(3)}
        assert len(texts) > 1

    async def test_logprobs_come_with_every_token_and_are_not_positive(self, engine: Engine) -> None:
        need(engine, Capability.LOGPROBS)
        answer = await run(engine, replace(ask(), logprobs=True))
        assert len(answer.logprobs) == answer.last.completion_tokens
        assert all(logprob is not None and logprob <= 1e-3 for logprob in answer.logprobs)

    async def test_alternatives_come_best_first(self, engine: Engine) -> None:
        need(engine, Capability.TOP_LOGPROBS)
        answer = await run(engine, replace(ask(max_tokens=4), logprobs=True, top_logprobs=3))
        tops = [token.top for step in answer.steps for token in step.tokens]
        assert tops
        for top in tops:
            assert len(top) == 3
            assert [entry.logprob for entry in top] == sorted((entry.logprob for entry in top), reverse=True)

    async def test_a_json_schema_is_kept(self, engine: Engine) -> None:
        need(engine, Capability.JSON_SCHEMA)
        request = ask("Give me JSON about Alice, who is 31.", max_tokens=64)
        value = json.loads(
            (await run(engine, replace(request, constraint=Constraint("json_schema", (PERSON,))))).text
        )
        assert set(value) == {"name", "age"}
        assert isinstance(value["age"], int)

    async def test_a_regex_is_kept(self, engine: Engine) -> None:
        need(engine, Capability.REGEX)
        request = replace(ask("Pick a date."), constraint=Constraint("regex", ("20[0-9]{2}-[01][0-9]",)))
        text = (await run(engine, request)).text
        assert len(text) == 7
        assert text.startswith("20")

    async def test_one_of_the_choices_is_chosen(self, engine: Engine) -> None:
        need(engine, Capability.CHOICES)
        choices = Constraint("choices", ("positive", "negative", "neutral"))
        assert (await run(engine, replace(ask("I love it!"), constraint=choices))).text in choices.value

    @pytest.mark.parametrize(
        "constraint",
        [
            Constraint("json_schema", ("{broken",)),
            Constraint("json_schema", ('{"type": "nope"}',)),
            Constraint("regex", ("(unclosed",)),
        ],
        ids=["no JSON", "no schema", "no regex"],
    )
    async def test_a_broken_constraint_is_refused_and_nothing_else_fails(
        self, engine: Engine, constraint: Constraint
    ) -> None:
        need(engine, Capability(constraint.kind))
        running = asyncio.create_task(run(engine, ask(STORY, max_tokens=24)))
        with pytest.raises(WeirError) as raised:
            await run(engine, replace(ask(), constraint=constraint))
        assert raised.value.code is ErrorCode.INVALID_CONSTRAINT
        assert (await running).last.completion_tokens == 24
        assert await engine.health() is Health.READY

    async def test_closing_the_iterator_aborts(self, engine: Engine) -> None:
        stream = engine.generate(ask(STORY, max_tokens=512))
        await anext(stream)
        await until(lambda: engine.load.running >= 1, 5)
        await stream.aclose()
        await until(lambda: (engine.load.running, engine.load.waiting) == (0, 0), 2)

    async def test_eight_streams_at_once_are_all_served(self, engine: Engine) -> None:
        requests = [ask(f"Tell me about the number {number}.", max_tokens=12) for number in range(8)]
        answers = await asyncio.gather(*(run(engine, request) for request in requests))
        assert all(answer.text and answer.last.finish_reason for answer in answers)
        await until(lambda: engine.load.running == 0, 2)

    async def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(self, engine: Engine) -> None:
        with pytest.raises(WeirError) as raised:
            await run(engine, ask("word " * (engine.info.max_context + 10)))
        assert raised.value.code is ErrorCode.CONTEXT_TOO_LONG
        assert str(engine.info.max_context) in raised.value.hint

    async def test_an_unknown_adapter_is_refused(self, engine: Engine) -> None:
        with pytest.raises(WeirError) as raised:
            await run(engine, replace(ask(), adapter="no-such-adapter"))
        assert raised.value.code is ErrorCode.UNKNOWN_ADAPTER

    async def test_characters_come_whole(self, engine: Engine) -> None:
        need(engine, Capability.REGEX)
        request = replace(ask("Repeat.", max_tokens=48), constraint=Constraint("regex", ("日本語👩‍👩‍👧🇩🇪é",)))
        answer = await run(engine, request)
        assert answer.text == "日本語👩‍👩‍👧🇩🇪é"
        assert all("\ufffd" not in step.text for step in answer.steps)

    async def test_an_assistant_turn_is_continued(self, engine: Engine) -> None:
        answer = await run(
            engine, ask(QUESTION, ChatMessage("assistant", "The capital of France is"), max_tokens=8)
        )
        assert answer.text.startswith(" Paris")

    async def test_an_empty_choice_of_words_is_no_crash(self, engine: Engine) -> None:
        assert (await run(engine, ask("👋", max_tokens=4))).last.finish_reason is not None
        assert await engine.health() is Health.READY

    async def test_scores_agree_with_generation(self, engine: Engine) -> None:
        need(engine, Capability.SCORE, Capability.SESSION, Capability.LOGPROBS)
        local = cast("SessionEngine", engine)
        prompt = local.codec.encode_chat([ChatMessage("user", QUESTION)])
        answer = await run(engine, replace(ask(), logprobs=True))
        scores = await engine.score(prompt, answer.ids, top=1)
        assert [score.id for score in scores] == answer.ids
        assert all(score.top[0].logprob - cast("float", score.logprob) < 0.6 for score in scores)
        pairs = zip(scores, answer.logprobs, strict=True)
        assert (
            max(abs(cast("float", score.logprob) - cast("float", generated)) for score, generated in pairs)
            < 0.6
        )

    async def test_an_unlikely_continuation_scores_lower(self, engine: Engine) -> None:
        need(engine, Capability.SCORE, Capability.SESSION)
        codec = cast("SessionEngine", engine).codec
        prompt = codec.encode_chat(
            [ChatMessage("user", QUESTION), ChatMessage("assistant", "The capital is")]
        )
        paris, berlin = [
            sum(cast("float", token.logprob) for token in await engine.score(prompt, codec.encode(name)))
            for name in (" Paris", " Berlin")
        ]
        assert paris > berlin + 2

    async def test_a_session_fed_in_chunks_rewound_and_fed_again_predicts_as_a_fresh_one(
        self, engine: Engine
    ) -> None:
        need(engine, Capability.SESSION)
        local = cast("SessionEngine", engine)
        prompt = local.codec.encode_chat([ChatMessage("user", STORY)])
        tail = local.codec.encode(" Once upon a time there was a fox")
        fresh, used = await local.open_session(), await local.open_session()
        try:
            expected = await fresh.extend([*prompt, *tail], top=2, logits=True)
            await used.extend(prompt)
            await used.extend(local.codec.encode(" something else entirely"))
            await used.rewind(len(prompt))
            found = [await used.extend([token], top=2, logits=True) for token in tail]
            assert used.length == fresh.length == len(prompt) + len(tail)
            for old, [new] in zip(expected[len(prompt) :], found, strict=True):
                assert new.top[0].id == old.top[0].id
                assert new.top[0].logprob == pytest.approx(old.top[0].logprob, abs=0.02)
                assert new.logits is not None
                assert int(np.argmax(new.logits)) == new.top[0].id
        finally:
            await fresh.aclose()
            await used.aclose()

    async def test_a_session_tells_the_probability_of_what_follows(self, engine: Engine) -> None:
        need(engine, Capability.SESSION)
        local = cast("SessionEngine", engine)
        prompt = local.codec.encode_chat([ChatMessage("user", QUESTION)])
        session = await local.open_session()
        try:
            [last] = await session.extend(prompt, last_only=True)
            assert last.next_logprob is None
            rows = await session.extend([last.top[0].id, 1, 2])
            assert rows[0].next_logprob is not None
            assert rows[0].next_logprob <= rows[0].top[0].logprob
            assert rows[-1].next_logprob is None
        finally:
            await session.aclose()

    async def test_a_mask_bounds_what_a_session_predicts(self, engine: Engine) -> None:
        need(engine, Capability.SESSION)
        local = cast("SessionEngine", engine)
        [allowed] = local.codec.encode(" yes")
        bits = np.zeros((engine.info.vocab_size + 7) // 8 * 8, np.uint8)
        bits[allowed] = 1
        session = await local.open_session()
        try:
            mask = np.packbits(bits, bitorder="little").tobytes()
            [row] = await session.extend(local.codec.encode("Say"), masks=[mask])
            assert row.top[0].id == allowed
            assert row.top[0].logprob == pytest.approx(0, abs=1e-5)
        finally:
            await session.aclose()

    async def test_sessions_are_bounded(self, engine: Engine) -> None:
        need(engine, Capability.SESSION)
        local = cast("SessionEngine", engine)
        async with AsyncExitStack() as opened:
            with pytest.raises(WeirError) as raised:
                for _ in range(100):
                    opened.push_async_callback((await local.open_session()).aclose)
            assert raised.value.code is ErrorCode.QUEUE_FULL
