"""`weir ask` as a user runs it, against a real server that answers as the test says."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from weir.common.app import App
from weir.common.config import Settings
from weir.common.errors import ErrorCode, WeirError
from weir.v1 import router_pb2, router_pb2_grpc, types_pb2

ESCAPE = "\x1b"


class Router(router_pb2_grpc.RouterServiceServicer):
    """Answers with ``script``; a WeirError in it is raised, and ``None`` waits for ever."""

    def __init__(self) -> None:
        self.script: Sequence[router_pb2.GenerateResponse | WeirError | None] = slm_answer()
        self.requests: list[router_pb2.GenerateRequest] = []
        self.metadata: dict[str, Any] = {}
        self.waiting = asyncio.Event()
        self.closed = asyncio.Event()

    async def Generate(self, request: router_pb2.GenerateRequest, context: Any) -> Any:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        try:
            for item in self.script:
                if isinstance(item, WeirError):
                    raise item
                if item is None:
                    self.waiting.set()
                    await asyncio.Event().wait()
                yield item
        finally:
            self.closed.set()

    async def Route(self, request: router_pb2.RouteRequest, context: Any) -> Any:
        raise AssertionError("`weir ask` does not call it")

    async def SendFeedback(self, request: router_pb2.SendFeedbackRequest, context: Any) -> Any:
        raise AssertionError("`weir ask` does not call it")


def decision(tier: types_pb2.Tier.ValueType, *codes: str) -> router_pb2.GenerateResponse:
    reasons = [router_pb2.Reason(code=code, detail="because") for code in codes]
    made = router_pb2.Decision(tier=tier, model="small", reasons=reasons, decision_id="d1")
    return router_pb2.GenerateResponse(decision=made)


def delta(text: str, source: types_pb2.Source.ValueType, tokens: int = 0) -> router_pb2.GenerateResponse:
    told = [types_pb2.Token(id=number, source=source) for number in range(tokens)]
    return router_pb2.GenerateResponse(delta=types_pb2.TokenDelta(text=text, source=source, tokens=told))


def finished(*, stand_in: bool = False) -> router_pb2.GenerateResponse:
    usage = types_pb2.Usage(
        tier=types_pb2.TIER_SLM, model="small", prompt_tokens=9, completion_tokens=3, stand_in=stand_in
    )
    end = router_pb2.Finished(
        finish_reason=types_pb2.FINISH_REASON_STOP, usage=[usage], cost_usd=0.001, frontier_cost_usd=0.003
    )
    return router_pb2.GenerateResponse(finished=end)


def slm_answer() -> list[router_pb2.GenerateResponse]:
    return [
        decision(types_pb2.TIER_SLM, "low_complexity", "within_budget"),
        delta("Hello ", types_pb2.SOURCE_SLM),
        delta("there.", types_pb2.SOURCE_SLM),
        finished(),
    ]


@pytest.fixture
async def router() -> Router:
    return Router()


@pytest.fixture
async def target(router: Router, settings: Settings) -> AsyncIterator[str]:
    app = App(
        "router",
        settings.services.router,
        settings,
        register=lambda server: router_pb2_grpc.add_RouterServiceServicer_to_server(router, server),
        grpc_services=["weir.v1.RouterService"],
    )
    async with app:
        yield f"127.0.0.1:{app.port}"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


async def start_ask(*arguments: str, **environ: str) -> asyncio.subprocess.Process:
    plain = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "weir.cli.main", "ask", *arguments),
        env={**plain, "COLUMNS": "80", "WEIR_VIEWER__HTTP_PORT": "0", **environ},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ask(*arguments: str, stdin: bytes = b"", **environ: str) -> Outcome:
    process = await start_ask(*arguments, **environ)
    out, err = await process.communicate(stdin)
    return Outcome(process.returncode or 0, out.decode(), err.decode())


async def test_the_answer_goes_to_stdout_and_the_line_about_it_to_stderr(target: str) -> None:
    outcome = await ask("Hi", "--target", target)
    assert outcome.code == 0
    assert outcome.out == "Hello there.\n"
    (line,) = outcome.err.splitlines()
    assert line.startswith("slm · low_complexity, within_budget · 9 → 3 tokens · first token ")
    assert "tok/s · $0.001, saved $0.002 · trace " in line
    assert ESCAPE not in outcome.out + outcome.err


async def test_each_part_has_the_color_of_who_wrote_it(router: Router, target: str) -> None:
    router.script = [
        decision(types_pb2.TIER_HYBRID, "pinned"),
        delta("drafted", types_pb2.SOURCE_DRAFT, tokens=2),
        delta("corrected", types_pb2.SOURCE_VERIFIER, tokens=1),
        finished(stand_in=True),
    ]
    outcome = await ask("Hi", "--target", target, "--tier", "hybrid", FORCE_COLOR="1", TERM="xterm-256color")
    assert f"{ESCAPE}[36mdrafted" in outcome.out
    assert f"{ESCAPE}[35mcorrected" in outcome.out
    assert "draft" in outcome.err.splitlines()[0]
    assert "hybrid (stand-in)" in outcome.err
    assert router.requests[0].token_detail
    assert router.requests[0].policy.allowed_tiers == [types_pb2.TIER_HYBRID]


async def test_no_color_is_honored(target: str) -> None:
    outcome = await ask("Hi", "--target", target, NO_COLOR="1", FORCE_COLOR="1", TERM="xterm-256color")
    assert f"{ESCAPE}[32m" not in outcome.out + outcome.err


def hybrid_answer() -> list[router_pb2.GenerateResponse]:
    return [
        decision(types_pb2.TIER_HYBRID, "pinned"),
        delta("drafted", types_pb2.SOURCE_DRAFT, tokens=3),
        delta("corrected", types_pb2.SOURCE_VERIFIER, tokens=1),
        finished(),
    ]


async def test_colors_can_be_asked_for_in_a_pipe(router: Router, target: str) -> None:
    router.script = hybrid_answer()
    outcome = await ask("Hi", "--target", target, "--color", "always", NO_COLOR="1")
    assert outcome.out == f"{ESCAPE}[36mdrafted{ESCAPE}[0m{ESCAPE}[35mcorrected{ESCAPE}[0m\n"


async def test_sources_are_named_without_colors(router: Router, target: str) -> None:
    router.script = hybrid_answer()
    outcome = await ask("Hi", "--target", target, "--sources", PYTHONIOENCODING="utf-8")
    assert outcome.out == "draft       | drafted\nverifier    | corrected\n"
    assert outcome.err.splitlines()[0] == "draft 75%, verifier 25%"
    assert router.requests[0].token_detail


async def test_sources_and_json_exclude_each_other() -> None:
    outcome = await ask("Hi", "--sources", "--json")
    assert outcome.code == 2
    assert "tokens_by_source" in outcome.err


async def test_the_model_cannot_steer_the_terminal(router: Router, target: str) -> None:
    router.script = [
        decision(types_pb2.TIER_SLM),
        delta(f"a{ESCAPE}[2J\x07[red]b", types_pb2.SOURCE_SLM),
        finished(),
    ]
    assert (await ask("Hi", "--target", target)).out == "a[2J[red]b\n"


async def test_json_prints_one_line_with_everything(router: Router, target: str) -> None:
    outcome = await ask("Hi", "--target", target, "--json")
    (line,) = outcome.out.splitlines()
    record = json.loads(line)
    assert (record["text"], record["tier"], record["model"]) == ("Hello there.", "slm", "small")
    assert record["decision"]["reasons"][0] == {"code": "low_complexity", "detail": "because"}
    assert record["finished"]["cost_usd"] == 0.001
    assert record["completion_tokens"] == 3
    assert record["trace_id"] in router.metadata["traceparent"]
    assert outcome.err == ""


async def test_options_reach_the_router(router: Router, target: str, tmp_path: Path) -> None:
    schema = tmp_path / "answer.json"
    schema.write_text('{"type": "object"}')
    options = ["--schema", str(schema), "--local-only", "--system", "Be brief", "--max-tokens", "5"]
    await ask("-", "--target", target, *options, "--temperature", "0", stdin="Grüße".encode())
    (request,) = router.requests
    assert [message.content for message in request.prompt.messages] == ["Be brief", "Grüße"]
    assert request.prompt.output.json_schema == '{"type": "object"}'
    assert request.policy.residency == types_pb2.RESIDENCY_LOCAL_ONLY
    assert request.prompt.sampling.max_tokens == 5
    assert request.prompt.sampling.HasField("temperature")
    assert request.prompt.sampling.temperature == 0
    assert not request.prompt.sampling.HasField("top_p")


async def test_no_router_is_one_sentence() -> None:
    outcome = await ask("Hi", "--target", "127.0.0.1:1")
    assert outcome.code == 1
    assert outcome.err == "No router answers at 127.0.0.1:1; start one with `weir up`.\n"


async def test_an_error_shows_its_sentence_and_code(router: Router, target: str) -> None:
    router.script = [WeirError(ErrorCode.NO_ELIGIBLE_TIER, "Every tier is excluded.")]
    outcome = await ask("Hi", "--target", target)
    assert outcome.code == 1
    assert "Every tier is excluded." in outcome.err
    assert "[NO_ELIGIBLE_TIER]" in outcome.err
    assert "Traceback" not in outcome.err


async def test_an_error_in_json_keeps_the_text_so_far(router: Router, target: str) -> None:
    partial = [decision(types_pb2.TIER_SLM), delta("Once", types_pb2.SOURCE_SLM)]
    router.script = [*partial, WeirError(ErrorCode.STREAM_BROKEN, "The worker ended.")]
    outcome = await ask("Hi", "--target", target, "--json")
    record = json.loads(outcome.out)
    assert outcome.code == 1
    assert (record["error"]["reason"], record["text"]) == ("STREAM_BROKEN", "Once")


async def test_a_deadline_ends_the_question(router: Router, target: str) -> None:
    router.script = [decision(types_pb2.TIER_SLM), None]
    outcome = await ask("Hi", "--target", target, "--timeout", "0.2")
    assert outcome.code == 1
    assert grpc.StatusCode.DEADLINE_EXCEEDED.name in outcome.err or "[DEADLINE]" in outcome.err


async def test_ctrl_c_cancels_the_call(router: Router, target: str) -> None:
    router.script = [decision(types_pb2.TIER_SLM), delta("Once", types_pb2.SOURCE_SLM), None]
    process = await start_ask("Hi", "--target", target)
    async with asyncio.timeout(30):
        await router.waiting.wait()
        process.send_signal(signal.SIGINT)
        await router.closed.wait()
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("content", "complaint"), [("{not json", "is not valid JSON"), (None, "cannot be read")]
)
async def test_a_bad_schema_file_is_one_sentence(tmp_path: Path, content: str | None, complaint: str) -> None:
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    outcome = await ask("Hi", "--schema", str(path))
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert complaint in line
