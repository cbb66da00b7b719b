"""Pure parts of the TensorRT-LLM engine: alignment of what came back, differences of cumulative outputs."""

from __future__ import annotations

from types import SimpleNamespace

import llguidance
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.engines.base import Candidate
from weir.engines.core.backend import RequestFailed
from weir.engines.core.messages import Submit
from weir.engines.core.speculation import Tally
from weir.engines.tensorrt_llm.outputs import OutputDelta, candidates
from weir.engines.tensorrt_llm.rows import (
    Row,
    align,
    log_softmax,
    masked,
    predictions,
    row_of_entry,
    row_of_logits,
)
from weir.engines.tensorrt_llm.sampling import choices_regex

END = 99


def logprob(value: float) -> SimpleNamespace:
    return SimpleNamespace(logprob=value)


@given(st.integers(1, 200), st.data())
def test_a_tail_is_matched_from_the_end_however_much_was_cached(length: int, data: st.DataObject) -> None:
    cached = data.draw(st.integers(0, length - 1))
    tail = list(range(cached, length))
    assert align(tail, length, trailing=True) == {at: at for at in tail}


@given(st.integers(2, 200), st.data())
def test_entries_about_the_token_itself_belong_to_the_position_before(
    length: int, data: st.DataObject
) -> None:
    cached = data.draw(st.integers(0, length - 1))
    about = list(range(cached, length))
    assert align(about, length, trailing=False) == {at - 1: at for at in about if at > 0}


@given(st.lists(st.integers(0, 98), max_size=30), st.data())
def test_cumulative_outputs_in_any_pieces_give_each_token_once(ids: list[int], data: st.DataObject) -> None:
    request = Submit(id=1, prompt=[1], max_tokens=99, logprobs=True)
    delta, seen = OutputDelta(request, frozenset({END}), Tally(0, 99)), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=8)))
    finished = [*ids, END]
    for shown, reason in [*((ids[:cut], None) for cut in cuts), (finished, "stop")]:
        entries = [{token: logprob(-float(token))} for token in shown]
        completion = SimpleNamespace(token_ids=shown, logprobs=entries, finish_reason=reason)
        output = delta.advance(completion)
        seen += output.tokens if output else []
        assert output is None or output.logprobs == [-float(token) for token in output.tokens]
    assert seen == ids


def test_missing_logprobs_fail_the_request_alone() -> None:
    delta = OutputDelta(Submit(id=1, prompt=[1], max_tokens=9, logprobs=True), frozenset({END}), Tally(0, 9))
    with pytest.raises(RequestFailed, match="no log-probabilities"):
        delta.advance(SimpleNamespace(token_ids=[3], logprobs=None, finish_reason=None))


def test_candidates_come_best_first_and_impossible_ones_not() -> None:
    entry = {4: logprob(-2.0), 5: logprob(-0.5), 6: logprob(float("-inf"))}
    assert candidates(entry) == (Candidate(5, -0.5), Candidate(4, -2.0))


def test_the_prompts_own_token_beside_the_best_is_left_out() -> None:
    entry = {4: logprob(-2.0), 5: logprob(-0.5), 7: logprob(-0.01)}
    assert row_of_entry(entry, 2, current=7).best == (Candidate(5, -0.5), Candidate(4, -2.0))
    assert row_of_entry(entry, 3, current=7).best[0].id == 7


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=40))
def test_logprobs_are_a_distribution(values: list[float]) -> None:
    logits = np.array(values, dtype=np.float32)
    assert np.exp(log_softmax(logits)).sum() == pytest.approx(1, abs=1e-4)
    assert row_of_logits(logits, 1).best[0].logprob == pytest.approx(float(log_softmax(logits).max()))


@given(st.sets(st.integers(0, 15), min_size=1), st.integers(1, 16))
def test_a_mask_leaves_its_tokens_and_normalizes_anew(allowed: set[int], top: int) -> None:
    mask = sum(1 << token for token in allowed).to_bytes(2, "little")
    row = row_of_logits(masked(np.arange(16, dtype=np.float32), mask), top)
    assert {one.id for one in row.best} <= allowed
    assert len(row.best) == min(top, len(allowed))
    assert row.best[0].id == max(allowed)


def test_masks_without_logits_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="logits"):
        predictions([Row((Candidate(1, -0.1),))], [1], top=1, logits=False, masks=[b"\xff"])


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5))
def test_any_choices_make_a_regular_expression_that_compiles(choices: list[str]) -> None:
    written = [choice.encode("utf-8", "ignore").decode() or "x" for choice in choices]
    grammar = llguidance.LLMatcher.grammar_from_regex(choices_regex(written))
    assert llguidance.LLMatcher.validate_grammar(grammar) == ""


@pytest.mark.parametrize("choices", [[], ["a", ""]])
def test_no_choice_and_an_empty_one_are_refused(choices: list[str]) -> None:
    with pytest.raises(RequestFailed, match="INVALID_CONSTRAINT"):
        choices_regex(choices)
