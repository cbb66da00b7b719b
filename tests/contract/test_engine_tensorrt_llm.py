"""The TensorRT-LLM engine, every call of it held against the recorded API."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.contract.trtllm_record import (
    VOCAB,
    ApiMismatch,
    FakeTensorrtLlm,
    Layout,
    RequestOutput,
    Told,
    greedy,
    logits_after,
    logprobs_after,
)
from weir.common.config.model import LocalModel
from weir.common.errors import WeirError
from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed
from weir.engines.tensorrt_llm import availability, quantization
from weir.engines.tensorrt_llm.backend import TensorrtBackend
from weir.engines.tensorrt_llm.core import create
from weir.engines.tensorrt_llm.options import Options

PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]
STOP = 1000  # outside the stand-in model's vocabulary
SOURCE = Path(availability.__file__).parent


class Core:
    """Drives a backend as the core loop does: takes events whenever it is woken."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._woken = threading.Event()
        self.backend: TensorrtBackend = create(options, self._woken.set)
        self.events: list[m.Event] = []

    def wait(self, until: Callable[[], bool], seconds: float = 10) -> None:
        while True:
            self._woken.clear()
            if self.backend.has_work():
                self.events += self.backend.step()
            if until():
                return
            assert self._woken.wait(seconds), f"nothing came; so far: {self.events}"

    def generate(self, **arguments: Any) -> list[m.Output]:
        given: dict[str, Any] = {"id": 1, "prompt": PROMPT, "max_tokens": 8} | arguments
        self.backend.submit(m.Submit(**given))
        self.wait(lambda: any(getattr(one, "finish", "") or isinstance(one, m.Failed) for one in self.events))
        outputs, self.events = self.events, []
        assert all(isinstance(one, m.Output) for one in outputs), outputs
        return [one for one in outputs if isinstance(one, m.Output)]

    def call(self, call: m.Call) -> Any:
        self.backend.call(call)
        self.wait(lambda: bool(self.events))
        return self.events.pop(0)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> FakeTensorrtLlm:
    made = FakeTensorrtLlm()
    for name, module in made.install().items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    config = {
        "vocab_size": VOCAB,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 64,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class Start:
    """Starts cores and closes them at the end."""

    def __init__(self, checkpoint: Path) -> None:
        self._checkpoint = checkpoint
        self._started: list[Core] = []

    def __call__(self, quantization: str | None = None, **run: Any) -> Core:
        settings = LocalModel.model_validate({"engine": "tensorrt_llm"} | run)
        options = Options(
            model=str(self._checkpoint),
            run=settings.model_dump(mode="json", exclude_unset=True),
            max_context=256,
            stop_ids=[STOP],
            warm_up=[9, 8, 7, 6, 5, 4],
            quantization=quantization or "",
        )
        core = Core(msgspec.to_builtins(options))
        self._started.append(core)
        return core

    def close(self) -> None:
        for core in self._started:
            core.backend.close()


@pytest.fixture
def start(package: FakeTensorrtLlm, checkpoint: Path) -> Iterator[Start]:
    starter = Start(checkpoint)
    yield starter
    starter.close()


def adapter(folder: Path, rank: int) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    return folder


# What is asked of the library


def test_the_model_is_loaded_with_block_reuse_and_the_configured_parallelism(
    start: Start, package: FakeTensorrtLlm, checkpoint: Path
) -> None:
    start(tensor_parallel_size=2, pipeline_parallel_size=2, max_running=7)
    asked = package.arguments("LLM")
    assert asked["model"] == str(checkpoint)
    assert (asked["tensor_parallel_size"], asked["pipeline_parallel_size"], asked["max_batch_size"]) == (
        2,
        2,
        7,
    )
    assert asked["max_seq_len"] == 257
    assert package.arguments("KvCacheConfig") == {"enable_block_reuse": True}


def test_a_configured_cache_size_becomes_a_number_of_tokens(start: Start, package: FakeTensorrtLlm) -> None:
    start(kv_cache_gb=0.001)
    # 2 (keys, values) x 2 layers x 2 heads x 16 wide x 2 bytes = 256 bytes a token
    assert package.arguments("KvCacheConfig")["max_tokens"] == 1_000_000 // 256


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("draft_model", "DraftTargetDecodingConfig"),
        ("eagle3", "Eagle3DecodingConfig"),
    ],
)
def test_speculation_with_a_model_is_configured_and_scoring_left_out(
    start: Start, package: FakeTensorrtLlm, tmp_path: Path, kind: str, made: str
) -> None:
    core = start(speculative=kind, speculative_model=str(tmp_path), speculative_tokens=3)
    assert package.arguments(made) == {"max_draft_len": 3, "speculative_model": str(tmp_path)}
    assert "speculative" in core.backend.ready().capabilities
    assert "score" not in core.backend.ready().capabilities


def test_lookup_is_configured_without_the_overlap_that_it_forbids(
    start: Start, package: FakeTensorrtLlm
) -> None:
    start(speculative="ngram", speculative_tokens=3, speculative_max_ngram=5)
    expected = {"max_draft_len": 3, "max_matching_ngram_size": 5}
    assert package.arguments("NGramDecodingConfig") == expected
    assert package.arguments("LLM")["disable_overlap_scheduler"] is True


def test_a_draft_model_without_its_folder_is_refused(start: Start, tmp_path: Path) -> None:
    with pytest.raises(RequestFailed, match=r"no folder at run\.speculative_model"):
        start(speculative="draft_model", speculative_model=str(tmp_path / "none"))


def test_speculation_with_adapters_is_refused(start: Start, tmp_path: Path) -> None:
    folders = {"law": str(adapter(tmp_path / "law", 8))}
    with pytest.raises(RequestFailed, match="does not speculate for LoRA adapters"):
        start(speculative="ngram", adapters=folders)


def test_what_was_accepted_is_read_off_the_iterations(start: Start, package: FakeTensorrtLlm) -> None:
    package.pace = 3
    outputs = start(speculative="ngram", speculative_tokens=4).generate(max_tokens=8)
    assert [token for one in outputs for token in one.tokens] == greedy(PROMPT, 8)
    # The prompt's token, then three at a time: for the last step there was room for three drafts.
    assert [len(one.tokens) for one in outputs] == [1, 3, 3, 1]
    assert [(one.drafted, one.accepted) for one in outputs] == [(0, 0), (4, 2), (3, 2), (0, 0)]


def test_an_engine_that_does_not_speculate_counts_nothing(start: Start) -> None:
    assert {(one.drafted, one.accepted) for one in start().generate(max_tokens=4)} == {(0, 0)}


def test_an_adapter_is_asked_for_by_name(start: Start, package: FakeTensorrtLlm, tmp_path: Path) -> None:
    folders = {"law": str(adapter(tmp_path / "law", 8)), "care": str(adapter(tmp_path / "care", 16))}
    core = start(adapters=folders)
    assert core.backend.ready().adapters == ["law", "care"]
    assert package.arguments("LoraConfig")["max_lora_rank"] == 16
    core.generate(adapter="care")
    asked = package.requests[-1]["lora_request"].given
    assert asked == {"lora_name": "care", "lora_int_id": 2, "lora_path": folders["care"]}


def test_an_unknown_adapter_is_refused(start: Start) -> None:
    with pytest.raises(RequestFailed, match="UNKNOWN_ADAPTER"):
        start().backend.submit(m.Submit(id=1, prompt=PROMPT, max_tokens=1, adapter="none"))


def test_max_tokens_seed_and_end_ids_are_always_sent(start: Start, package: FakeTensorrtLlm) -> None:
    start().generate(max_tokens=5, seed=11, temperature=0.7, top_p=0.9, top_k=20)
    asked = package.requests[-1]
    assert (asked["max_tokens"], asked["seed"], asked["end_id"], asked["stop_token_ids"]) == (
        5,
        11,
        STOP,
        [STOP],
    )
    assert (asked["temperature"], asked["top_p"], asked["top_k"]) == (0.7, 0.9, 20)
    assert asked["streaming"] is True


def test_temperature_zero_is_one_candidate(start: Start, package: FakeTensorrtLlm) -> None:
    start().generate(temperature=0.0, top_p=0.9)
    asked = package.requests[-1]
    assert asked["top_k"] == 1
    assert "temperature" not in asked


def test_without_a_seed_each_sampled_request_has_its_own(start: Start, package: FakeTensorrtLlm) -> None:
    core = start()
    core.generate(temperature=1.0)
    core.generate(temperature=1.0)
    assert package.requests[-1]["seed"] != package.requests[-2]["seed"]


def test_what_the_caller_leaves_out_is_the_models_own(
    start: Start, package: FakeTensorrtLlm, checkpoint: Path
) -> None:
    own = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}
    (checkpoint / "generation_config.json").write_text(json.dumps(own))
    start().generate(top_p=0.5)
    asked = package.requests[-1]
    assert (asked["temperature"], asked["top_p"]) == (0.6, 0.5)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("json_schema", ['{"type": "object"}'], {"json": '{"type": "object"}'}),
        ("regex", ["[ab]+"], {"regex": "[ab]+"}),
        ("grammar", ['root ::= "a"'], {"grammar": 'root ::= "a"'}),
        ("choices", ["yes", "n.o"], {"regex": r"(yes|n\.o)"}),
    ],
)
def test_a_constraint_guides_the_decoding(
    start: Start, package: FakeTensorrtLlm, kind: str, value: list[str], expected: dict[str, str]
) -> None:
    start().generate(constraint_kind=kind, constraint_value=value)
    assert package.requests[-1]["guided_decoding"].given == expected


@pytest.mark.parametrize(("kind", "value"), [("json_schema", ["{"]), ("json_schema", ["3"]), ("choices", [])])
def test_a_broken_constraint_is_refused(start: Start, kind: str, value: list[str]) -> None:
    request = m.Submit(id=1, prompt=PROMPT, max_tokens=1, constraint_kind=kind, constraint_value=value)
    with pytest.raises(RequestFailed, match="INVALID_CONSTRAINT"):
        start().backend.submit(request)


# What comes back


def test_cumulative_outputs_become_each_token_once(start: Start) -> None:
    outputs = start().generate(max_tokens=8)
    assert [token for one in outputs for token in one.tokens] == greedy(PROMPT, 8)
    assert [one.finish for one in outputs] == [""] * 7 + ["length"]


def test_the_end_token_is_left_out(start: Start, package: FakeTensorrtLlm, checkpoint: Path) -> None:
    first, second = greedy(PROMPT, 2)
    core = start()
    core.backend._stop_ids = (second,)
    outputs = core.generate(max_tokens=8)
    assert [token for one in outputs for token in one.tokens] == [first]
    assert outputs[-1].finish == "stop"


def test_logprobs_and_alternatives_come_with_each_token(start: Start) -> None:
    (output, *_) = start().generate(logprobs=True, top_logprobs=3)
    expected = logprobs_after(PROMPT)
    assert output.logprobs == pytest.approx([expected.max()], abs=1e-4)
    assert output.top[0].ids == list(np.argsort(-expected, kind="stable")[:3])


@pytest.mark.parametrize("entry", [-0.5, {7: type("Logprob", (), {"logprob": -0.5})()}])
def test_either_form_of_logprob_is_read(entry: Any) -> None:
    from weir.engines.tensorrt_llm.outputs import own_logprob

    assert own_logprob(entry, 7) == -0.5


def test_an_abort_reaches_the_library_and_frees_the_place(start: Start, package: FakeTensorrtLlm) -> None:
    core = start()
    core.backend.submit(m.Submit(id=4, prompt=PROMPT, max_tokens=1_000_000))
    core.wait(lambda: bool(core.events))
    assert core.backend.stats().running == 1
    core.backend.abort(4)
    core.wait(lambda: core.backend.stats().running == 0)
    assert len(package.aborted) == 1
    assert not any(getattr(one, "finish", "") for one in core.events)


def test_a_request_that_the_library_refuses_fails_alone(start: Start, package: FakeTensorrtLlm) -> None:
    core = start()
    package.refuse = ValueError("too long")
    core.backend.submit(
        m.Submit(id=2, prompt=PROMPT, max_tokens=1, constraint_kind="regex", constraint_value=["["])
    )
    core.wait(lambda: bool(core.events))
    (failed,) = core.events
    assert isinstance(failed, m.Failed)
    assert (failed.code, failed.request) == ("INVALID_CONSTRAINT", 2)
    package.refuse = None
    core.events = []
    assert core.generate(id=3)


def test_a_timeout_inside_the_library_is_the_deadline(start: Start, package: FakeTensorrtLlm) -> None:
    core = start()
    package.finish = "timeout"
    core.backend.submit(m.Submit(id=2, prompt=PROMPT, max_tokens=4))
    core.wait(lambda: bool(core.events))
    assert [getattr(one, "code", "") for one in core.events] == ["DEADLINE"]


def test_a_failing_library_ends_the_process(start: Start, package: FakeTensorrtLlm) -> None:
    core = start()
    package.stats_error = RuntimeError("the executor died")
    with pytest.raises(RuntimeError, match="TensorRT-LLM failed"):
        core.wait(lambda: False)


def test_a_checkpoint_that_does_not_load_is_explained(start: Start, package: FakeTensorrtLlm) -> None:
    package.load_error = RuntimeError("out of memory")
    with pytest.raises(RequestFailed, match="MODEL_UNAVAILABLE"):
        start()


@pytest.mark.parametrize("form", [dict, json.dumps])
def test_the_library_reports_its_load(
    start: Start, package: FakeTensorrtLlm, form: Callable[[dict[str, Any]], Any]
) -> None:
    core = start()
    report = {"numQueuedRequests": 0, "kvCacheStats": {"usedNumBlocks": 25, "maxNumBlocks": 100}}
    package.reports.append(form(report))
    core.wait(lambda: core.backend.stats().kv_cache_used == 0.25)


def test_closing_shuts_the_library_down(start: Start, package: FakeTensorrtLlm) -> None:
    start().backend.close()
    assert package.shut_down == 1


# Scoring and sessions


def truth(ids: Sequence[int], first: int) -> list[float]:
    return [float(logprobs_after(ids[:at])[ids[at]]) for at in range(first, len(ids))]


@pytest.mark.parametrize("layout", ["trailing", "own", "extra", "unusable"])
@pytest.mark.parametrize("repeat", [1, 2])
def test_a_score_is_the_models_own_logprob(
    start: Start, package: FakeTensorrtLlm, layout: Layout, repeat: int
) -> None:
    package.layout = layout
    core = start()
    continuation = [5, 5, 17, *greedy([*PROMPT, 5, 5, 17], 3)]
    for number in range(repeat):  # the second time nearly all of it is cached, and only a tail comes back
        answer = core.call(m.Score(call=number, prompt=PROMPT, continuation=continuation, top=2))
    assert [row.next_logprob for row in answer.rows] == pytest.approx(
        truth([*PROMPT, *continuation], len(PROMPT)), abs=0.02
    )
    assert [len(row.ids) for row in answer.rows] == [2] * len(continuation)


def test_a_score_without_a_prompt_has_no_first_logprob(start: Start) -> None:
    answer = start().call(m.Score(call=1, prompt=[], continuation=[4, 5]))
    assert answer.rows[0].next_logprob is None
    assert answer.rows[1].next_logprob == pytest.approx(truth([4, 5], 1)[0], abs=0.02)


def test_a_session_predicts_after_each_token(start: Start) -> None:
    core = start()
    core.backend.open_session(1)
    first = core.call(m.Extend(call=1, session=1, ids=PROMPT, top=2))
    assert first.rows[-1].ids[0] == greedy(PROMPT, 1)[0]
    assert first.rows[-1].next_logprob is None
    draft = [*greedy(PROMPT, 2), 0]
    second = core.call(m.Extend(call=2, session=1, ids=draft, top=1))
    assert [row.ids[0] for row in second.rows] == [greedy([*PROMPT, *draft[:n]], 1)[0] for n in (1, 2, 3)]
    expected = truth([*PROMPT, *draft], len(PROMPT) + 1)
    assert [row.next_logprob for row in second.rows[:-1]] == pytest.approx(expected, abs=0.02)


def test_a_rewound_session_predicts_as_if_nothing_had_been_fed(start: Start) -> None:
    core = start()
    core.backend.open_session(1)
    before = core.call(m.Extend(call=1, session=1, ids=PROMPT))
    core.call(m.Extend(call=2, session=1, ids=[1, 2, 3]))
    after = core.call(m.Extend(call=3, session=1, ids=PROMPT[-4:], at=len(PROMPT) - 4))
    assert [row.ids for row in after.rows] == [row.ids for row in before.rows[-4:]]


def test_masks_rule_tokens_out_before_normalizing(start: Start) -> None:
    core = start()
    core.backend.open_session(1)
    allowed = [2, 30, 41]
    bits = np.zeros(VOCAB, dtype=np.uint8)
    bits[allowed] = 1
    mask = np.packbits(bits, bitorder="little").tobytes()
    answer = core.call(m.Extend(call=1, session=1, ids=PROMPT, top=5, masks=[mask] * len(PROMPT)))
    weights = np.exp(logits_after(PROMPT)[allowed].astype(np.float64))
    best = allowed[int(weights.argmax())]
    assert sorted(answer.rows[-1].ids) == allowed
    assert answer.rows[-1].ids[0] == best
    assert answer.rows[-1].logprobs[0] == pytest.approx(np.log(weights.max() / weights.sum()), abs=0.02)


def test_logits_are_returned_whole(start: Start) -> None:
    core = start()
    core.backend.open_session(1)
    for number in (1, 2):
        answer = core.call(m.Extend(call=number, session=1, ids=[7, 8], logits=True))
    found = np.frombuffer(answer.rows[-1].logits, dtype=np.float32)
    assert found == pytest.approx(logits_after([7, 8, 7, 8]), abs=0.02)


def test_a_session_past_the_context_stays_as_it_was(start: Start) -> None:
    core = start()
    core.backend.open_session(1)
    core.call(m.Extend(call=1, session=1, ids=PROMPT))
    failed = core.call(m.Extend(call=2, session=1, ids=[1] * 250))
    assert (failed.code, failed.call) == ("CONTEXT_TOO_LONG", 2)
    assert core.call(m.Extend(call=3, session=1, ids=[1])).rows


def test_a_closed_session_takes_no_calls(start: Start) -> None:
    core = start()
    core.backend.open_session(1)
    core.backend.close_session(1)
    with pytest.raises(RequestFailed, match="no session 1"):
        core.backend.call(m.Extend(call=1, session=1, ids=[1]))


# Drafts


def draft(core: Core, ids: Sequence[int] = PROMPT, **given: Any) -> m.Extended:
    asked: dict[str, Any] = {"call": 1, "session": 1, "ids": list(ids), "count": 4} | given
    answer = core.call(m.Draft(**asked))
    assert isinstance(answer, m.Extended), answer
    return answer


@pytest.fixture
def drafter(start: Start) -> Core:
    core = start()
    core.backend.open_session(1)
    return core


def test_a_draft_is_one_generation_behind_the_session(drafter: Core, package: FakeTensorrtLlm) -> None:
    before = len(package.requests)
    answer = draft(drafter)
    assert answer.drafted == greedy(PROMPT, 4)
    assert [row.next_logprob for row in answer.rows] == pytest.approx(
        truth([*PROMPT, *answer.drafted], len(PROMPT)), abs=1e-4
    )
    assert len(package.requests) == before + 1
    assert package.requests[-1]["max_tokens"] == 4


def test_a_draft_tells_its_cost_and_the_sessions_length(drafter: Core) -> None:
    answer = draft(drafter)
    assert (answer.length, answer.tokens, answer.sequences) == (len(PROMPT) + 3, len(PROMPT) + 3, 1)
    assert answer.seconds > 0


def test_a_draft_goes_on_from_what_stood(drafter: Core) -> None:
    first = draft(drafter).drafted
    correction = (first[2] + 1) % VOCAB
    second = draft(drafter, [correction], at=len(PROMPT) + 2)
    assert second.drafted == greedy([*PROMPT, *first[:2], correction], 4)


def test_a_draft_ends_with_a_stop_token(drafter: Core) -> None:
    expected = greedy(PROMPT, 4)
    answer = draft(drafter, stop_ids=[expected[1]])
    assert answer.drafted == expected[: expected.index(expected[1]) + 1]


def test_a_draft_ends_before_the_first_unsure_token(drafter: Core) -> None:
    sure = [float(np.exp(one)) for one in truth([*PROMPT, *greedy(PROMPT, 4)], len(PROMPT))]
    least = min(sure)
    answer = draft(drafter, min_confidence=least * 1.01)
    assert len(answer.drafted) == sure.index(least)
    assert answer.length == len(PROMPT) + max(0, len(answer.drafted) - 1)


@pytest.mark.parametrize("told", ["plain", "shaped"])
def test_a_sampled_draft_tells_the_whole_distribution(
    start: Start, package: FakeTensorrtLlm, told: Told
) -> None:
    package.told = told
    core = start()
    core.backend.open_session(1)
    answer = draft(core, temperature=0.7, top_p=0.9, top_k=5, seed=3)
    sequence = list(PROMPT)
    for token, row in zip(answer.drafted, answer.rows, strict=True):
        logits = logits_after(sequence).astype(np.float64)
        best = np.argsort(-logits, kind="stable")[:5]
        q = np.exp(logits[best] / 0.7) / np.exp(logits[best] / 0.7).sum()
        assert row.ids == best.tolist()
        assert np.exp(row.logprobs) == pytest.approx(q, abs=1e-6)
        assert row.next_logprob == row.logprobs[row.ids.index(token)]
        sequence.append(token)


def test_the_nucleus_is_left_to_the_verifier(drafter: Core, package: FakeTensorrtLlm) -> None:
    draft(drafter, temperature=0.7, top_p=0.9)
    asked = package.requests[-1]
    assert "top_p" not in asked
    assert (asked["temperature"], asked["top_k"], asked["logprobs"]) == (0.7, 16, 17)


def test_drafts_of_one_seed_differ_along_an_answer(drafter: Core, package: FakeTensorrtLlm) -> None:
    draft(drafter, temperature=0.7, seed=3)
    draft(drafter, [1], temperature=0.7, seed=3)
    assert package.requests[-1]["seed"] != package.requests[-2]["seed"]


def test_an_unreadable_distribution_is_left_out(start: Start, package: FakeTensorrtLlm) -> None:
    package.told = "unusable"
    core = start()
    core.backend.open_session(1)
    answer = draft(core, temperature=0.7, top_k=5)
    assert len(answer.drafted) == 4
    assert [row.ids for row in answer.rows] == [[]] * 4


def test_a_draft_past_the_context_leaves_the_session_as_it_was(drafter: Core) -> None:
    draft(drafter)
    failed = drafter.call(m.Draft(call=2, session=1, ids=[1] * 241, count=4, at=len(PROMPT)))
    assert (failed.code, failed.call) == ("CONTEXT_TOO_LONG", 2)
    assert draft(drafter, [1], at=len(PROMPT)).drafted == greedy([*PROMPT, 1], 4)


def test_an_extension_tells_its_cost(drafter: Core) -> None:
    answer = drafter.call(m.Extend(call=1, session=1, ids=PROMPT))
    assert (answer.tokens, answer.sequences) == (len(PROMPT), 1)
    assert answer.seconds > 0


# Quantization


@pytest.mark.parametrize(
    ("section", "algorithm", "name"),
    [
        ({}, "NO_QUANT", "none"),
        ({"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}, "FP8", "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "FP8_BLOCK_SCALES", "fp8"),
        ({"quant_algo": "NVFP4"}, "NVFP4", "fp4"),
        ({"quant_method": "mxfp4"}, "W4A16_MXFP4", "fp4"),
        ({"quant_method": "awq", "bits": 4}, "W4A16_AWQ", "int4_awq"),
        ({"quant_method": "gptq", "bits": 4}, "W4A16_GPTQ", "int4_gptq"),
    ],
)
def test_a_checkpoints_own_quantization_is_taken(section: dict[str, Any], algorithm: str, name: str) -> None:
    assert quantization.algorithm_of(section) == algorithm
    assert quantization.accepted(None, section) == name
    assert quantization.accepted(name, section) == name


def test_every_algorithm_that_a_name_means_is_recorded() -> None:
    recorded = set(FakeTensorrtLlm().record["QuantAlgo"])
    assert {one for names in quantization.ALGORITHMS.values() for one in names} <= recorded


def test_nf4_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(WeirError) as refused:
        quantization.accepted("nf4", {})
    assert "nf4" in refused.value.hint
    assert "int4_awq" in refused.value.hint


def test_a_contradiction_with_the_checkpoint_is_refused() -> None:
    with pytest.raises(WeirError) as refused:
        quantization.accepted("fp8", {"quant_method": "awq"})
    assert "holds W4A16_AWQ" in refused.value.hint


def test_a_bitsandbytes_checkpoint_is_refused(start: Start, checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestFailed, match="bitsandbytes"):
        start()


def test_an_algorithm_newer_than_the_package_is_refused(
    start: Start, package: FakeTensorrtLlm, checkpoint: Path
) -> None:
    (checkpoint / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "NVFP8"}}))
    with pytest.raises(RequestFailed, match="NVFP8, which the installed TensorRT-LLM lacks"):
        start()


# Without the package


def test_a_release_without_the_recorded_names_is_explained(
    start: Start, package: FakeTensorrtLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sys.modules["tensorrt_llm.llmapi"], "Eagle3DecodingConfig")
    with pytest.raises(RequestFailed) as refused:
        start()
    assert refused.value.code == "MODEL_UNAVAILABLE"
    assert "install release 1.2 or newer" in refused.value.hint


def test_without_the_package_the_error_says_what_to_install() -> None:
    if availability.gpu_count():
        pytest.skip("a GPU is here: the refusal cannot be seen")
    with pytest.raises(WeirError) as refused:
        availability.require_tensorrt_llm()
    assert refused.value.code == "MODEL_UNAVAILABLE"
    assert "install" in refused.value.hint


def test_without_a_gpu_the_error_says_what_to_configure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(availability, "gpu_count", lambda: 0)
    with pytest.raises(WeirError) as refused:
        availability.require_tensorrt_llm()
    assert "NVIDIA GPU" in refused.value.hint


def test_the_server_side_imports_neither_pytorch_nor_the_package() -> None:
    code = (
        "import sys, weir.engines.tensorrt_llm.factory, weir.engines.tensorrt_llm.availability\n"
        "print([name for name in ('torch', 'tensorrt_llm') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# The record


def test_every_name_that_is_imported_is_recorded() -> None:
    recorded = FakeTensorrtLlm().record["import_from"]
    imports = [
        (node.module, alias.name)
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tensorrt_llm"
        for alias in node.names
    ]
    assert imports
    assert [one for one in imports if one[1] not in recorded.get(one[0], [])] == []


def test_the_package_is_imported_inside_functions_only() -> None:
    for file in SOURCE.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            assert not any(one.split(".")[0] in {"tensorrt_llm", "torch"} for one in [*names, module]), (
                file.name
            )


def test_the_double_offers_recorded_names_only(package: FakeTensorrtLlm) -> None:
    output = RequestOutput(package, [1], {}, 0)
    public = {name for name in dir(output) if not name.startswith("_")}
    recorded = {*package.record["RequestOutput"]["methods"], *package.record["RequestOutput"]["properties"]}
    assert public <= recorded
    assert set(vars(output.outputs[0])) == set(package.record["CompletionOutput"])


def test_the_double_refuses_what_is_not_recorded(package: FakeTensorrtLlm) -> None:
    with pytest.raises(ApiMismatch):
        package.classes["SamplingParams"](maximum_tokens=3)
    with pytest.raises(ApiMismatch):
        package.classes["SamplingParams"](max_tokens="3")
    with pytest.raises(ApiMismatch):
        package.classes["LLM"](guided_decoding_backend="outlines")
