"""What is taken out of a prompt before it leaves, what is not, and how it comes back."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.common.personal_data import find
from weir.engines.base import ChatMessage, Constraint, Sampling
from weir.frontier_proxy.providers.base import ProviderRequest
from weir.frontier_proxy.redacted import redacted
from weir.frontier_proxy.redaction import Redactor, unfinished
from weir.frontier_proxy.stages import Restore

FOUND = {
    "EMAIL": ["ada@example.org", "j.o+x@mail.co.uk", "jürgen@müller.de"],
    "PHONE": ["+44 20 7946 0958", "(415) 555-2671", "+49 30 901820"],
    "CARD": ["4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005"],
    "IBAN": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
    "IP": ["203.0.113.7", "2001:db8::8a2e:370:7334"],
    "KEY": [
        "sk-proj-abcdefghijklmnopqrstuv",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "sk_live_" + "a1B2" * 6,
        "npm_" + "a1B2" * 9,
        "pypi-AgEI" + "a1B2" * 20,
        "SG." + "a1B2" * 5 + "." + "a1B2" * 10,
        "ya29." + "a1B2" * 10,
        "dop_v1_" + "a1b2" * 16,
        "gsk_" + "a1B2" * 13,
        "xai-" + "a1B2" * 20,
    ],
}
HARMLESS = [
    "4111 1111 1111 1112",
    "DE89 3704 0044 0532 0130 01",
    "127.0.0.1",
    "999.1.1.1",
    "12:30:45",
    "std::vector",
    "3.14159",
    "2026-11-22",
    "user@localhost",
    "sk-short",
    "17 rivers",
]
CASES = [(kind, text) for kind, texts in FOUND.items() for text in texts]


@pytest.mark.parametrize(("kind", "text"), CASES)
def test_personal_data_is_found_whole_within_a_sentence(kind: str, text: str) -> None:
    sentence = f"Please note {text}, thanks."
    start = sentence.index(text)
    assert [tuple(finding) for finding in find(sentence)] == [(start, start + len(text), kind)]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert find(f"Please note {text}, thanks.") == []


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("DE89 3704 0044 0532 0130 00 AND MORE", ["DE89 3704 0044 0532 0130 00"]),
        ("NO17 2026 DE89 3704 0044 0532 0130 00", ["DE89 3704 0044 0532 0130 00"]),
        (
            "DE89370400440532013000 GB82WEST12345698765432",
            ["DE89370400440532013000", "GB82WEST12345698765432"],
        ),
        ("4111 1111 1111 1111 12/27", ["4111 1111 1111 1111"]),
        ("3 4111 1111 1111 1111", ["4111 1111 1111 1111"]),
    ],
)
def test_a_number_is_found_among_groups_that_look_like_parts_of_it(text: str, numbers: list[str]) -> None:
    assert [text[finding.start : finding.end] for finding in find(text)] == numbers


FRAGMENTS = st.lists(
    st.one_of(
        st.sampled_from([text for _, text in CASES]),
        st.sampled_from(["[EMAIL_1]", "[PHONE_", "EMAIL_2]", "[", "]"]),
        st.text(max_size=12),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(FRAGMENTS, st.lists(st.integers(0, 6), max_size=60))
def test_an_echoed_prompt_comes_back_as_it_was_however_it_is_cut(
    fragments: list[str], sizes: list[int]
) -> None:
    text = " ".join(fragments)
    redactor = Redactor([text])
    echo = redactor.redact(text)
    if not redactor.originals:
        assert echo == text
        return
    restore, answer = Restore(redactor.originals), ""
    for size in sizes:
        answer += restore.feed(echo[:size])
        echo = echo[size:]
    assert answer + restore.feed(echo) + restore.flush() == text


@settings(max_examples=100, deadline=None)
@given(FRAGMENTS)
def test_nothing_that_is_found_is_left_in_what_is_sent(fragments: list[str]) -> None:
    text = " ".join(fragments)
    redactor = Redactor([text])
    sent = redactor.redact(text)
    kinds = {finding.kind for finding in find(text)}
    assert kinds == {placeholder[1:].split("_")[0] for placeholder in redactor.originals}
    for finding in find(text):
        if finding.kind in ("EMAIL", "KEY", "IBAN"):
            assert text[finding.start : finding.end] not in sent


def test_the_same_text_gets_the_same_placeholder() -> None:
    redactor = Redactor(["a@b.org c@d.org a@b.org"])
    assert redactor.redact("a@b.org c@d.org a@b.org") == "[EMAIL_1] [EMAIL_2] [EMAIL_1]"


def test_a_placeholder_that_the_prompt_holds_already_is_not_used() -> None:
    redactor = Redactor(["[EMAIL_1] is a@b.org"])
    assert redactor.redact("[EMAIL_1] is a@b.org") == "[EMAIL_1] is [EMAIL_2]"


def test_a_request_is_redacted_everywhere_and_its_schema_stays_a_schema() -> None:
    schema = '{"type": "string", "enum": ["a@b.org"], "maximum": 4111111111111111}'
    request = ProviderRequest(
        model="m",
        messages=(ChatMessage("user", "Mail a@b.org."),),
        sampling=Sampling(stop=("a@b.org",)),
        constraint=Constraint("json_schema", (schema,)),
        prefix="To a@b.org",
    )
    sent, originals, owed = redacted(request)
    assert not owed
    assert originals == {"[EMAIL_1]": "a@b.org"}
    assert "a@b.org" not in repr(sent)
    assert sent.constraint is not None
    assert "4111111111111111" in sent.constraint.value[0]
    assert sent.messages[0].role == "system"


@pytest.mark.parametrize("hostile", ["a", "1", "a.", "1:", "AB12 ", "1 ", "a@b.org ", "Call 415 555 2671. "])
def test_time_is_linear_in_hostile_text(hostile: str) -> None:
    started = time.perf_counter()
    find(hostile * (16_000 // len(hostile)))
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Write to ada@exam", "ple.org"),
        ("Write to ada@example.org", ""),
        ("Her name is ada", ""),
        ("See granada@exam", ""),
        ("Call +44 20 ", "7946 0958"),
        ("+44 20 7946 0958 and", ""),
        ("It is 203.0.113.7", ""),
        ("It is 203.0.113.", "77"),
    ],
)
def test_what_a_text_breaks_off_within_is_found(text: str, missing: str) -> None:
    known = ["ada@example.org", "+44 20 7946 0958", "203.0.113.7", "203.0.113.77"]
    assert unfinished(text, known) == missing
