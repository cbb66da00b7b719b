"""An answer on a terminal: who wrote what, in colors or in words, and not a byte of the text changed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.cli.answer import Answer
from weir.cli.log_lines import printable
from weir.cli.sources import WIDTH, SourceLines
from weir.cli.terminal import AnswerView, ColorChoice
from weir.client import Delta, Event, Finished, Handoff, Reason, Source, Tier, Token, Usage

ESCAPE = "\x1b"
ANSWER = [
    Delta("The capital of", Source.DRAFT, ()),
    Delta(" France", Source.VERIFIER, ()),
    Delta(" is Paris.\nIt", Source.DRAFT, ()),
]
PARTS = st.lists(
    st.tuples(
        st.sampled_from([Source.DRAFT, Source.VERIFIER, Source.FRONTIER]),
        st.text(st.sampled_from("ab \n\t│é漢😀\u0301\u200d"), max_size=6),
    ),
    max_size=12,
)


class Screen(io.StringIO):
    """Standard output or error, as a terminal or a pipe."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Screens:
    """Made in the test itself: pytest puts its own streams in place after the fixtures."""

    def __init__(self, patch: pytest.MonkeyPatch, *, terminal: bool) -> None:
        self.out, self.err = Screen(terminal), Screen(terminal)
        patch.setattr("sys.stdout", self.out)
        patch.setattr("sys.stderr", self.err)
        patch.setenv("TERM", "xterm")
        for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
            patch.delenv(name, raising=False)


def show(events: list[Delta], **options: Any) -> None:
    view = AnswerView(**options)
    for event in events:
        view.delta(event)


def tokens(source: Source, count: int) -> tuple[Token, ...]:
    return tuple(Token(number, None, source, ()) for number in range(count))


def collected(*events: Event) -> Answer:
    answer = Answer()
    for event in events:
        answer.add(event)
    return answer


def finished(*usage: Usage) -> Finished:
    return Finished("stop", usage, 0.0, 0.0, 0.0, 0.1, 0.2, 0.9)


def used(tier: Tier, completion: int, drafted: int = 0, accepted: int = 0, passes: int = 0) -> Usage:
    return Usage(tier, "model", 5, 0, completion, drafted, accepted, 0.0, False, passes)


def test_a_terminal_shows_each_source_in_its_color(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Screens(monkeypatch, terminal=True)
    show(ANSWER)
    assert terminal.out.getvalue() == (
        "\x1b[36mThe capital of\x1b[0m\x1b[35m France\x1b[0m\x1b[36m is Paris.\nIt\x1b[0m"
    )


def test_a_pipe_gets_the_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Screens(monkeypatch, terminal=False)
    show(ANSWER)
    assert pipe.out.getvalue() == "The capital of France is Paris.\nIt"


def test_tabs_and_trailing_spaces_pass_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Screens(monkeypatch, terminal=False)
    show([Delta("def f():\n\treturn 1  \n", Source.SLM, ())])
    assert pipe.out.getvalue() == "def f():\n\treturn 1  \n"


def test_no_color_keeps_colors_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Screens(monkeypatch, terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    show(ANSWER)
    assert terminal.out.getvalue() == "The capital of France is Paris.\nIt"


def test_never_keeps_every_escape_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Screens(monkeypatch, terminal=True)
    view = AnswerView(color=ColorChoice.NEVER)
    view.delta(ANSWER[0])
    view.summary(collected(*ANSWER, finished(used(Tier.HYBRID, 9))), "trace 1")
    view.error("It went wrong.")
    assert ESCAPE not in terminal.out.getvalue() + terminal.err.getvalue()


def test_always_colors_a_pipe_and_overrules_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Screens(monkeypatch, terminal=False)
    monkeypatch.setenv("NO_COLOR", "1")
    show(ANSWER[:1], color=ColorChoice.ALWAYS)
    assert pipe.out.getvalue() == "\x1b[36mThe capital of\x1b[0m"


def test_sources_name_each_part_on_its_own_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Screens(monkeypatch, terminal=False)
    show(ANSWER, sources=True)
    assert pipe.out.getvalue().splitlines() == [
        "draft       | The capital of",
        "verifier    |  France",
        "draft       |  is Paris.↵",
        "            | It",
    ]


def test_sources_do_not_begin_a_part_without_text(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Screens(monkeypatch, terminal=False)
    show([ANSWER[0], Delta("", Source.VERIFIER, tokens(Source.VERIFIER, 1)), ANSWER[2]], sources=True)
    assert "verifier" not in pipe.out.getvalue()


@given(PARTS)
def test_the_answer_can_be_read_back_from_its_named_lines(parts: list[tuple[Source, str]]) -> None:
    lines = SourceLines()
    written = "".join(lines.add(text, source) for source, text in parts)
    read: list[tuple[Source, str]] = []
    for line in written.split("\n"):
        name, content = line[:WIDTH].strip(), line[WIDTH + 3 :].replace("↵", "\n")
        if name:
            read.append((Source(name), content))
        elif content:
            read.append((read[-1][0], read.pop()[1] + content))
    merged: list[tuple[Source, str]] = []
    for source, text in parts:
        if text and merged and merged[-1][0] is source:
            merged[-1] = (source, merged[-1][1] + text)
        elif text:
            merged.append((source, text))
    assert read == merged


@given(st.text())
def test_what_is_printable_stays_so_in_named_lines(text: str) -> None:
    written = SourceLines(plain_ascii=True).add(printable(text), Source.SLM)
    assert printable(written) == written


def test_an_ascii_terminal_shows_other_characters_as_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    show([Delta("Grüße\n", Source.SLM, ())], sources=True)
    assert raw.getvalue() == b"slm         | Gr??e\\n\n"


def test_shares_are_of_tokens_where_they_were_told() -> None:
    answer = collected(
        Delta("many", Source.DRAFT, tokens(Source.DRAFT, 3)),
        Delta("x" * 50, Source.VERIFIER, tokens(Source.VERIFIER, 1)),
    )
    assert answer.shares == {Source.DRAFT: 0.75, Source.VERIFIER: 0.25}


def test_the_frontiers_tokens_are_those_of_its_usage() -> None:
    answer = collected(
        Delta("a", Source.VERIFIER, tokens(Source.VERIFIER, 10)),
        Delta("b", Source.FRONTIER, ()),
        finished(used(Tier.HYBRID, 10), used(Tier.FRONTIER, 30)),
    )
    assert answer.shares == {Source.VERIFIER: 0.25, Source.FRONTIER: 0.75}


def test_shares_are_of_characters_where_no_tokens_were_told() -> None:
    answer = collected(Delta("aaa", Source.DRAFT, ()), Delta("b", Source.VERIFIER, ()))
    assert answer.shares == {Source.DRAFT: 0.75, Source.VERIFIER: 0.25}


def test_an_answer_without_text_has_no_shares() -> None:
    assert collected(finished(used(Tier.SLM, 0))).shares == {}


def test_the_legend_tells_shares_and_what_became_of_the_drafts(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Screens(monkeypatch, terminal=False)
    deltas = [
        Delta("a", Source.DRAFT, tokens(Source.DRAFT, 299)),
        Delta("b", Source.VERIFIER, tokens(Source.VERIFIER, 1)),
    ]
    answer = collected(*deltas, finished(used(Tier.HYBRID, 300, drafted=310, accepted=299, passes=60)))
    AnswerView().summary(answer, "trace 1")
    legend, *_ = pipe.err.getvalue().splitlines()
    assert legend == "draft 100%, verifier <1%; 299 of 310 drafted tokens stood, 5.0 tokens a pass"


def test_on_a_terminal_the_legend_shows_the_colors(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Screens(monkeypatch, terminal=True)
    AnswerView().summary(collected(*ANSWER), "trace 1")
    legend, *_ = terminal.err.getvalue().splitlines()
    assert "\x1b[36m■ \x1b[0m" in legend
    assert "\x1b[35m■ \x1b[0m" in legend


def test_a_piped_answer_of_one_source_needs_no_legend(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Screens(monkeypatch, terminal=False)
    AnswerView().summary(collected(Delta("Hi", Source.SLM, ())), "trace 1")
    (line,) = pipe.err.getvalue().splitlines()
    assert line.endswith("trace 1")


def test_a_replay_is_named_and_recorded() -> None:
    usage = Usage(Tier.FRONTIER, "gpt-4o", 9, 0, 3, 0, 0, 0.1, False, replay=True)
    answer = Answer()
    answer.add(Handoff(Tier.SLM, Tier.FRONTIER, Reason("escalated", "because"), 0))
    answer.add(Finished("stop", (usage,), 0.1, 0.1, 0.0, 0.0, 0.0, 0.5))
    assert answer.facts()[0] == "frontier (replay)"
    assert answer.record()["replay"] is True
