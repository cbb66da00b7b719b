"""Reloading: a new valid revision takes over without a dropped request, an invalid one changes nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.classifier_doubles import Folders, until
from weir.common.config.routing import Routing
from weir.router.classifier.base import Question
from weir.router.classifier.judge import LiveJudge, build_judge
from weir.router.live.reload import Slot, signature

Start = Callable[..., Awaitable[LiveJudge]]
FAST = {"reload_seconds": 0.005, "time_limit_ms": 30_000}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path)
    made.write("present", "one 0")
    return made


@pytest.fixture
async def start(folders: Folders, tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as cleanup:

        async def started(**routing: Any) -> LiveJudge:
            sections = {"classifier": str(tmp_path / "present"), "runtime": FAST, **routing}
            judge = build_judge(Routing.model_validate(sections), folders.load)
            cleanup.push_async_callback(judge.aclose)
            await judge.start()
            return judge

        yield started
        for classifier in folders.loaded.values():
            classifier.gate.set()


def revision(judge: LiveJudge, role: str = "present") -> str:
    return next((report.revision for report in judge.status() if report.role == role), "")


async def test_a_slot_reads_a_folder_once_it_has_settled(folders: Folders, tmp_path: Path) -> None:
    slot = Slot("present", tmp_path / "present", folders.load)
    assert (await slot.open()).revision == "one"
    assert await slot.look() is None
    folders.write("present", "two 0")
    assert await slot.look() is None
    loaded = await slot.look()
    assert loaded is not None
    assert loaded.revision == "two"
    assert await slot.look() is None
    assert folders.tried == ["one 0", "two 0"]


async def test_a_folder_that_still_changes_is_not_read(folders: Folders, tmp_path: Path) -> None:
    slot = Slot("present", tmp_path / "present", folders.load)
    await slot.open()
    for number in range(4):
        folders.write("present", f"part{number} 0")
        assert await slot.look() is None
    assert folders.tried == ["one 0"]


async def test_the_same_revision_written_again_is_no_news(folders: Folders, tmp_path: Path) -> None:
    slot = Slot("present", tmp_path / "present", folders.load)
    await slot.open()
    folders.write("present", "one 0")
    assert [await slot.look(), await slot.look()] == [None, None]


async def test_an_invalid_revision_is_refused_once_and_a_valid_one_taken_after_it(
    folders: Folders, tmp_path: Path
) -> None:
    slot = Slot("present", tmp_path / "present", folders.load)
    await slot.open()
    folders.write("present", "broken")
    with capture_logs() as logs:
        for _ in range(5):
            assert await slot.look() is None
    assert [entry["event"] for entry in logs] == ["classifier_refused"]
    assert slot.refused == "The classifier is not valid."
    folders.write("present", "two 0")
    await slot.look()
    loaded = await slot.look()
    assert loaded is not None
    assert slot.refused == ""


async def test_a_vanished_folder_is_refused(tmp_path: Path) -> None:
    def load(folder: Path | None) -> Any:
        assert folder is not None
        return Folders(tmp_path).load(folder)

    folders = Folders(tmp_path)
    folder = folders.write("gone", "one 0")
    slot = Slot("present", folder, load)
    await slot.open()
    (folder / "artifact.json").unlink()
    assert [await slot.look(), await slot.look()] == [None, None]
    assert "cannot be read" in slot.refused


def test_a_folder_s_signature_follows_each_of_its_files(tmp_path: Path) -> None:
    assert signature(tmp_path / "absent") == frozenset()
    (tmp_path / "one").write_text("1")
    before = signature(tmp_path)
    (tmp_path / "two").write_text("2")
    assert signature(tmp_path) != before


async def test_a_new_revision_decides_and_the_cache_starts_anew(start: Start, folders: Folders) -> None:
    judge = await start()
    question = Question("0.1 same")
    assert [(await judge.judge(question)).by for _ in range(2)] == ["classifier", "cache"]
    folders.write("present", "two 0.2")
    await until(lambda: revision(judge) == "two")
    judgment = await judge.judge(question)
    assert (judgment.by, judgment.revision) == ("classifier", "two")
    assert judgment.assessment.complexity == pytest.approx(0.3)


async def test_no_request_is_dropped_while_classifiers_change(start: Start, folders: Folders) -> None:
    judge = await start()
    stop = asyncio.Event()
    found: list[str] = []

    async def keep_asking(name: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            judgment = await judge.judge(Question(f"0.1 {name} {number}"))
            assert judgment.by == "classifier"
            found.append(judgment.revision)

    asking = [asyncio.create_task(keep_asking(name)) for name in range(4)]
    for number in range(5):
        folders.write("present", f"r{number} 0")
        await until(lambda number=number: f"r{number}" in found[-4:])  # type: ignore[misc]
    stop.set()
    await asyncio.gather(*asking)
    assert list(dict.fromkeys(found))[-1] == "r4"
    await until(lambda: classifier_threads() <= 1)


def classifier_threads() -> int:
    return sum(thread.name == "weir-classifier" for thread in threading.enumerate())


async def test_the_old_one_ends_what_it_had_begun(start: Start, folders: Folders) -> None:
    judge = await start()
    old = folders.loaded["one"]
    old.hold()
    begun = asyncio.create_task(judge.judge(Question("0.1 begun")))
    await asyncio.to_thread(old.entered.wait, 10)
    folders.write("present", "two 0")
    await until(lambda: revision(judge) == "two")
    assert (await judge.judge(Question("0.1 new"))).revision == "two"
    old.gate.set()
    assert (await begun).revision == "one"


async def test_an_invalid_revision_leaves_the_old_one_in_force(start: Start, folders: Folders) -> None:
    judge = await start()
    folders.write("present", "broken")
    await until(lambda: "refused" in judge.status()[0].detail)
    assert (await judge.judge(Question("0.1 text"))).revision == "one"


async def test_a_rolled_back_revision_does_not_come_back_but_the_next_one_does(
    start: Start, folders: Folders, tmp_path: Path
) -> None:
    folder = str(folders.write("candidate", "candidate 0"))
    judge = await start(canary={"classifier": folder, "share": 1.0, "min_outcomes": 20})
    for _ in range(200):
        judge.observe_outcome("present", "one", good=True)
        judge.observe_outcome("canary", "candidate", good=False)
    assert revision(judge, "rolled_back") == "candidate"
    folders.write("candidate", "candidate 0.0")
    await until(lambda: folders.tried[-1] == "candidate 0.0")
    assert (await judge.judge(Question("0.1 a"))).role == "present"
    folders.write("candidate", "better 0")
    await until(lambda: revision(judge, "canary") == "better")
    assert (await judge.judge(Question("0.1 b"))).role == "canary"


async def test_the_cascade_s_classifier_is_exchanged_too(start: Start, folders: Folders) -> None:
    folder = str(folders.write("large", "large 0"))
    judge = await start(cascade={"classifier": folder})
    assert (await judge.judge(Question("0.5 doubtful"))).revision == "one+large"
    folders.write("large", "larger 0")
    await until(lambda: revision(judge, "cascade") == "larger")
    judgment = await judge.judge(Question("0.5 doubtful"))
    assert (judgment.by, judgment.revision) == ("cascade", "one+larger")
