"""The hash chain: whatever is done to a trace shows, and what is not done to it does not."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from weir.router.receipts.chain import Link, UnkeepableError, encode, extend, genesis, verify
from weir.router.receipts.database import Stored, row
from weir.router.receipts.records import DecisionRecord, FeedbackRecord, OutcomeRecord, Record
from weir.router.receipts.trace import TraceError, parse_link, read_links, read_trace, write_trace


def records(count: int) -> list[Record]:
    made: list[Record] = []
    for number in range(count):
        if number % 2:
            made.append(
                OutcomeRecord(f"d{number - 1}", at=1e9 + number, outcome="finished", answered_by="slm")
            )
        else:
            made.append(FeedbackRecord(f"d{number}", at=1e9 + number, acceptable=True, comment="très bien"))
    return made


@dataclass(frozen=True)
class Chain:
    anchor: Link
    links: list[tuple[Link, bytes]]

    @property
    def head(self) -> Link:
        return self.links[-1][0]


def chain(count: int) -> Chain:
    anchor = tail = genesis()
    links = []
    for record in records(count):
        body = encode(record)
        tail = extend(tail, body)
        links.append((tail, body))
    return Chain(anchor, links)


def lines(made: Chain) -> list[bytes]:
    out = io.BytesIO()
    write_trace(
        [
            Stored(link, replace(row(r), body=body))
            for (link, body), r in zip(made.links, records(len(made.links)), strict=True)
        ],
        out,
    )
    return out.getvalue().splitlines()


def verdict_of(path: Path, text: list[bytes], made: Chain, noted: Link | bytes | None) -> str:
    """Return what verifying the lines says; empty where it finds nothing."""
    path.write_bytes(b"\n".join(text))
    try:
        return verify(read_links(path), made.anchor, noted).problem
    except TraceError as error:
        return str(error)


def test_chain_as_written_verifies_and_ends_at_its_head() -> None:
    made = chain(5)
    verdict = verify(made.links, made.anchor, made.head)
    assert (verdict.ok, verdict.count, verdict.head) == (True, 5, made.head)


@examples(max_examples=200, deadline=None)
@given(data=st.data(), count=st.integers(2, 6))
def test_any_single_change_of_a_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, count: int
) -> None:
    made = chain(count)
    text = lines(made)
    number = data.draw(st.integers(0, count - 1))
    at = data.draw(st.integers(0, len(text[number]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != text[number][at]))
    text[number] = text[number][:at] + bytes([byte]) + text[number][at + 1 :]
    assert verdict_of(tmp_path_factory.getbasetemp() / "changed.jsonl", text, made, made.head)


@examples(max_examples=200, deadline=None)
@given(data=st.data(), count=st.integers(2, 8))
def test_first_broken_sequence_is_named_for_each_kind_of_tampering(data: st.DataObject, count: int) -> None:
    made = chain(count)
    links = list(made.links)
    at = data.draw(st.integers(0, count - 1))
    kind = data.draw(st.sampled_from(["edit", "delete", "insert", "repeat", "swap", "cut"]))
    broken = at + 1
    if kind == "edit":
        links[at] = (links[at][0], encode(FeedbackRecord("other", at=1.0)))
    elif kind == "delete":
        del links[at]
    elif kind == "insert":
        body = encode(FeedbackRecord("inserted", at=1.0))
        links.insert(at, (extend(links[at - 1][0] if at else made.anchor, body), body))
        # It fits by itself; the one that it displaces does not.
        broken = at + 2
    elif kind == "repeat":
        links.insert(at, links[at])
        broken = at + 2
    elif kind == "swap":
        at = data.draw(st.integers(0, count - 2))
        links[at], links[at + 1] = links[at + 1], links[at]
        broken = at + 1
    else:
        del links[at:]
    found = verify(links, made.anchor, made.head)
    assert (found.ok, found.broken) == (False, broken)


def test_end_that_was_cut_off_and_written_anew_is_found_by_the_noted_hash_alone() -> None:
    made = chain(4)
    body = encode(FeedbackRecord("new", at=2.0))
    anew = [*made.links[:3], (extend(made.links[2][0], body), body)]
    assert verify(anew, made.anchor).ok
    assert not verify(anew, made.anchor, made.head).ok
    assert not verify(anew, made.anchor, made.head.hash).ok


def test_head_noted_earlier_is_still_found_in_a_chain_that_grew() -> None:
    made = chain(6)
    assert verify(made.links, made.anchor, made.links[2][0]).ok
    assert verify(made.links, made.anchor, made.links[2][0].hash).ok
    assert verify(made.links, made.anchor, made.anchor).ok


def test_chain_behind_a_pruned_part_verifies_from_its_anchor() -> None:
    made = chain(6)
    anchor = made.links[1][0]
    assert verify(made.links[2:], anchor, made.head).ok
    assert "pruned" in verify(made.links[2:], anchor, made.links[0][0]).problem


def test_chain_of_another_store_does_not_fit() -> None:
    one, other = chain(3), chain(3)
    assert verify([*one.links[:1], *other.links[1:]], one.anchor).broken == 2


def test_trace_gives_back_the_records(tmp_path: Path) -> None:
    made = chain(4)
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"\n".join(lines(made)))
    assert [receipt.record for receipt in read_trace(path)] == records(4)
    assert [receipt.hash for receipt in read_trace(path)] == [link.hash.hex() for link, _ in made.links]


def test_foreign_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(lines(chain(1))[0] + b'\n{"prompt": "no"}\n')
    with pytest.raises(TraceError, match="line 2"):
        list(read_trace(path))


@pytest.mark.parametrize("text", ["", "abc", "1:abc", "x:" + "a" * 64, "1:" + "g" * 64])
def test_malformed_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a head"):
        parse_link(text)


def test_head_is_read_as_it_is_printed() -> None:
    link = chain(2).head
    assert parse_link(str(link)) == link
    assert parse_link(link.hash.hex()) == link.hash


UNREADABLE = (
    OutcomeRecord("d", at=1.0, outcome="finished", answered_by="slm", cost_usd=float("nan")),
    OutcomeRecord("d", at=1.0, outcome="finished", answered_by="slm", total_s=float("inf")),
    FeedbackRecord("\ud800", at=1.0),
)


@pytest.mark.parametrize("record", UNREADABLE)
def test_record_that_could_not_be_read_back_is_refused(record: Record) -> None:
    with pytest.raises(UnkeepableError):
        encode(record)


def test_identifier_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(UnkeepableError, match="zero byte"):
        row(FeedbackRecord("a\0b", at=1.0))


def test_bytes_do_not_depend_on_the_order_of_mappings() -> None:
    def made(signals: dict[str, str]) -> bytes:
        return encode(
            DecisionRecord("d", "r", "t", 1.0, "slm", "m", ["slm"], {}, {}, signals, [], {}, 0.5, 3)
        )

    assert made({"a": "1", "b": "2"}) == made({"b": "2", "a": "1"})
