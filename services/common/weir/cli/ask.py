"""`weir ask`: one prompt, answered as it streams, and what it took."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import secrets
import socket
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from weir.cli.answer import Answer
from weir.cli.credentials import credentials
from weir.cli.terminal import AnswerView, ColorChoice
from weir.client import (
    Delta,
    Handoff,
    Message,
    Output,
    Policy,
    Residency,
    Sampling,
    Tier,
    WeirClient,
    WeirClientError,
)
from weir.common.config import ConfigError, Settings, load_settings

ask_app = typer.Typer(add_completion=False)
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class TierName(StrEnum):
    """The tiers, as given on the command line."""

    SLM = "slm"
    HYBRID = "hybrid"
    FRONTIER = "frontier"


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of whom. ``trace_id`` is 32 hex digits."""

    target: str
    messages: list[Message]
    sampling: Sampling
    output: Output
    policy: Policy
    timeout_s: float
    as_json: bool
    color: ColorChoice = ColorChoice.AUTO
    sources: bool = False
    trace_id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(16))

    @property
    def token_detail(self) -> bool:
        """Wanted where small and large model alternate, to say who wrote how much."""
        return self.sources or self.policy.allowed_tiers == [Tier.HYBRID]

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """The W3C trace context that makes the request's trace known by its id."""
        return [("traceparent", f"00-{self.trace_id}-{secrets.token_hex(8)}-01")]


@ask_app.command()
def ask(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from standard input.")],
    schema: Annotated[
        Path | None, typer.Option("--schema", help="A JSON Schema (draft 2020-12) that the answer must meet.")
    ] = None,
    tier: Annotated[TierName | None, typer.Option("--tier", help="Allow this tier alone.")] = None,
    local_only: Annotated[
        bool, typer.Option("--local-only", help="Nothing may leave this installation.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON, at the end.")] = False,
    target: Annotated[
        str | None, typer.Option("--target", help="The router's host:port; the configured one otherwise.")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="A system prompt.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", min=0.0, help="0 is greedy.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.001, help="Deadline in seconds.")] = 120.0,
    color: Annotated[
        ColorChoice, typer.Option("--color", help="auto: on a terminal, unless NO_COLOR is set.")
    ] = ColorChoice.AUTO,
    sources: Annotated[
        bool, typer.Option("--sources", help="Name who wrote each part, on a line of its own.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="WEIR_CONFIG", help="Configuration file (YAML).")
    ] = None,
) -> None:
    """Ask the router, and stream the answer in the color of who produced it."""
    if sources and as_json:
        raise typer.BadParameter("names parts as they stream; --json has them in tokens_by_source")
    settings = load_settings(config, os.environ)
    question = Question(
        target=target or f"127.0.0.1:{settings.services.router.port}",
        messages=[*([Message("system", system)] if system else []), Message("user", _read_prompt(prompt))],
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature),
        output=Output(json_schema=_read_schema(schema)),
        policy=Policy(
            residency=Residency.LOCAL_ONLY if local_only else None,
            allowed_tiers=[Tier(tier.value)] if tier else [],
        ),
        timeout_s=timeout,
        as_json=as_json,
        color=color,
        sources=sources,
    )
    try:
        code = asyncio.run(_ask(question, settings))
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


async def _ask(question: Question, settings: Settings) -> int:
    """Run the question and return the exit code; interrupted, the call is cancelled on the way out."""
    view = AnswerView(color=question.color, sources=question.sources)
    answer = Answer()
    try:
        await _stream(question, answer, view)
    except WeirClientError as error:
        _show_error(question, answer, view, error)
        return 1
    except asyncio.CancelledError:
        view.end_line()
        raise
    link = _trace_link(question, settings)
    if question.as_json:
        _print_json({**answer.record(), "trace_id": question.trace_id, "trace_url": link or None})
    else:
        view.summary(answer, link or f"trace {question.trace_id}")
    return 0


async def _stream(question: Question, answer: Answer, view: AnswerView) -> None:
    async with WeirClient(question.target, metadata=credentials(os.environ)) as client:
        generation = client.generate(
            question.messages,
            sampling=question.sampling,
            output=question.output,
            policy=question.policy,
            token_detail=question.token_detail,
            timeout=question.timeout_s,
            metadata=question.metadata,
        )
        async with generation as events:
            async for event in events:
                answer.add(event)
                if question.as_json:
                    continue
                if isinstance(event, Delta):
                    view.delta(event)
                elif isinstance(event, Handoff):
                    view.handoff(event)


def _show_error(question: Question, answer: Answer, view: AnswerView, error: WeirClientError) -> None:
    # A status of ours names its reason; a bare one comes from the connection.
    if error.status is grpc.StatusCode.UNAVAILABLE and not error.reason and answer.decision is None:
        sentence = f"No router answers at {question.target}; start one with `weir up`."
    else:
        sentence = f"{error.message} [{error.reason or error.status.name}]"
    if not question.as_json:
        view.error(sentence)
        return
    facts = {
        "status": error.status.name,
        "reason": error.reason,
        "message": sentence if not error.reason else error.message,
        "retry_after_s": error.retry_after_s,
        "fields": error.fields,
    }
    _print_json({"error": facts, "text": answer.text, "trace_id": question.trace_id})


def _print_json(record: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


def _read_prompt(prompt: str) -> str:
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"Standard input is not valid UTF-8 (byte {error.start}).") from None


def _read_schema(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check --schema.") from None
    except ValueError as error:
        raise ConfigError(f"{path}: is not valid JSON ({error}); check --schema.") from None
    return text


def _trace_link(question: Question, settings: Settings) -> str:
    """Return the trace's address where a local trace page is there to show it."""
    host = question.target.rpartition(":")[0]
    address = ("127.0.0.1", settings.viewer.http_port)
    if host not in LOOPBACK or not address[1]:
        return ""
    try:
        socket.create_connection(address, timeout=0.2).close()
    except OSError:
        return ""
    return f"http://{address[0]}:{address[1]}/trace/{question.trace_id}"
