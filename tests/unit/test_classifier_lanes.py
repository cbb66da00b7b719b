"""Several prompts at a time: in lanes on a CPU, where company changes nothing, padded elsewhere."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.unit.classifier_doubles import until
from weir.router.classifier.lanes import MAX_LANE_BYTES, Network
from weir.router.classifier.model import Classifier

SAMPLE = Path(__file__).parent.parent / "data" / "routing_sample.jsonl"
Feed = Mapping[str, npt.NDArray[np.int64]]


class ScriptedSession:
    """Its embedding of a prompt is the sum and the count of its ids."""

    def __init__(self, threads: int, seen: list[tuple[int, int, int]]) -> None:
        self.threads, self._seen = threads, seen

    def run(self, _: None, feed: Feed) -> list[npt.NDArray[np.float32]]:
        ids, mask = feed["input_ids"], feed["attention_mask"]
        self._seen.append((self.threads, *ids.shape))
        if (ids == 13).any():
            raise RuntimeError("a scripted failure")
        return [np.stack([(ids * mask).sum(1), mask.sum(1)], axis=1).astype(np.float32)]


@pytest.fixture
def seen() -> list[tuple[int, int, int]]:
    """Threads, rows and columns of every run."""
    return []


@pytest.fixture
def network(tmp_path: Path, seen: list[tuple[int, int, int]]) -> Callable[..., Network]:
    path = tmp_path / "model.onnx"
    path.touch()

    def made(threads: int = 2, *, on_cpu: bool = True, size: int = 0) -> Network:
        with path.open("r+b") as file:
            file.truncate(size)
        return Network(path, lambda count: ScriptedSession(count, seen), threads, on_cpu=on_cpu)

    return made


def prompts(*lengths: int) -> list[npt.NDArray[np.int64]]:
    return [np.full(length, index + 20, np.int64) for index, length in enumerate(lengths)]


def expected(given: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
    return np.array([[each.sum(), len(each)] for each in given], np.float32)


def test_a_lone_prompt_has_all_threads(
    network: Callable[..., Network], seen: list[tuple[int, int, int]]
) -> None:
    network().embed(prompts(7))
    assert seen == [(2, 1, 7)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_several_prompts_go_each_by_itself_and_come_back_in_order(
    network: Callable[..., Network], seen: list[tuple[int, int, int]], threads: int
) -> None:
    given = prompts(3, 9, 1, 5, 5)
    assert np.array_equal(network(threads).embed(given), expected(given))
    assert {(count, rows) for count, rows, _ in seen} == {(1, 1)}
    assert sorted(columns for _, _, columns in seen) == [1, 3, 5, 5, 9]


@pytest.mark.parametrize("options", [{"on_cpu": False}, {"size": MAX_LANE_BYTES + 1}])
def test_elsewhere_they_are_padded_into_one_batch(
    network: Callable[..., Network], seen: list[tuple[int, int, int]], options: dict[str, int]
) -> None:
    given = prompts(3, 9, 1)
    assert np.array_equal(network(**options).embed(given), expected(given))
    assert seen == [(2, 3, 9)]


def test_a_failure_in_any_lane_is_told_and_the_next_call_works(network: Callable[..., Network]) -> None:
    both = network()
    for bad in ([13], [20, 13]):
        given = [*prompts(4, 4, 4), np.array(bad, np.int64), *prompts(2)]
        with pytest.raises(RuntimeError, match="scripted"):
            both.embed(given)
    given = prompts(4, 4)
    assert np.array_equal(both.embed(given), expected(given))


def test_many_callers_share_the_lanes(network: Callable[..., Network]) -> None:
    both = network()
    given = prompts(*range(1, 30))
    found: list[bool] = []
    callers = [
        threading.Thread(target=lambda: found.append(np.array_equal(both.embed(given), expected(given))))
        for _ in range(6)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert found == [True] * 6


async def test_a_network_that_is_let_go_leaves_no_thread(network: Callable[..., Network]) -> None:
    before = set(threading.enumerate())
    both = network(3)
    both.embed(prompts(*range(1, 30)))
    lanes = set(threading.enumerate()) - before
    assert lanes
    del both
    gc.collect()
    await until(lambda: not any(thread.is_alive() for thread in lanes))


def test_the_packaged_classifier_says_the_same_in_company_as_alone() -> None:
    classifier = Classifier.load()
    texts = [json.loads(row)["prompt"] for row in SAMPLE.read_text(encoding="utf-8").splitlines()[:24]]
    together, alone = classifier.assess(texts), [classifier.assess([text])[0] for text in texts]
    for one, other in zip(together, alone, strict=True):
        assert (one.tokens, [d.name for d in one.domains]) == (other.tokens, [d.name for d in other.domains])
        # The heads may sum in another order; the network may not.
        assert (one.complexity, one.gain) == pytest.approx((other.complexity, other.gain), abs=1e-6)
