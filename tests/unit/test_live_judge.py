"""The judge while it runs: shadow, canary with roll-back, cascade, fallbacks and what it tells of itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.classifier_doubles import PRIOR, Folders, until
from weir.common.config.routing import Routing
from weir.common.errors import WeirError
from weir.router.classifier.base import Judgment, Question
from weir.router.classifier.judge import LiveJudge, build_judge
from weir.router.live.convert import reports_to_proto

Start = Callable[..., Awaitable[LiveJudge]]


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path)
    for name in ("large", "candidate"):
        made.write(name, f"{name} 0.05")
    return made


@pytest.fixture
async def start(folders: Folders, tmp_path: Path) -> AsyncIterator[Start]:
    async with AsyncExitStack() as cleanup:

        async def started(**routing: Any) -> LiveJudge:
            routing.setdefault("runtime", {"reload_seconds": 0, "time_limit_ms": 30_000})
            judge = build_judge(Routing.model_validate(routing), folders.load)
            cleanup.push_async_callback(judge.aclose)
            await judge.start()
            return judge

        yield started
        for classifier in folders.loaded.values():
            classifier.gate.set()


async def ask(judge: LiveJudge, text: str, **more: Any) -> Judgment:
    return await judge.judge(Question(text, **more))


def row(judge: LiveJudge, role: str) -> Any:
    return next(report for report in judge.status() if report.role == role)


def outcomes(judge: LiveJudge, judgment_by_role: dict[str, Judgment], role: str, good: int, bad: int) -> None:
    judgment = judgment_by_role[role]
    for number in range(good + bad):
        judge.observe_outcome(judgment.role, judgment.revision, good=number < good)


async def both(judge: LiveJudge) -> dict[str, Judgment]:
    """One judgment of each role."""
    return {
        "present": await ask(judge, "0.1 anyone's", key="no", tenant="other"),
        "canary": await ask(judge, "0.1 a tenant's", tenant="acme"),
    }


async def test_the_packaged_classifier_judges_and_is_reported(start: Start) -> None:
    judge = await start()
    first, again = await ask(judge, "0.6 text"), await ask(judge, "0.6 text")
    assert (first.by, again.by, first.revision) == ("classifier", "cache", "packaged")
    report = row(judge, "present")
    assert (report.revision, report.judged, report.cached, report.fallbacks) == ("packaged", 2, 1, 0)
    [told] = reports_to_proto([report])
    assert (told.role, told.revision, told.judged, told.cached) == ("present", "packaged", 2, 1)


async def test_a_failing_classifier_is_replaced_by_its_prior(start: Start) -> None:
    judge = await start()
    with capture_logs() as logs:
        judgment = await ask(judge, "fail this")
    assert (judgment.by, judgment.note, judgment.assessment) == ("prior", "classifier_failed", PRIOR)
    assert row(judge, "present").fallbacks == 1
    assert [entry["event"] for entry in logs] == ["classifier_falls_back"]


async def test_a_hanging_classifier_delays_by_its_limit_only(start: Start, folders: Folders) -> None:
    judge = await start(runtime={"reload_seconds": 0, "time_limit_ms": 20})
    folders.loaded["packaged"].hold()
    late = [(await ask(judge, f"0.1 {number}")).note for number in range(3)]
    assert late[0] == "classifier_slow"
    # Once it is known to hang nothing waits for it any longer.
    assert late[1:] == ["classifier_busy", "classifier_busy"]


async def test_the_cascade_is_asked_where_in_doubt_and_reported(start: Start, tmp_path: Path) -> None:
    judge = await start(cascade={"classifier": str(tmp_path / "large")})
    assert [(await ask(judge, text)).by for text in ("0.1 sure", "0.5 doubtful", "0.5 doubtful")] == [
        "classifier", "cascade", "cache",
    ]  # fmt: skip
    assert row(judge, "cascade").judged == 1
    assert row(judge, "present").judged == 3


async def test_without_the_cascade_s_classifier_the_router_does_not_start(
    start: Start, tmp_path: Path, folders: Folders
) -> None:
    folders.write("large", "not an artifact")
    with pytest.raises(WeirError):
        await start(cascade={"classifier": str(tmp_path / "large")})


async def test_a_shadow_compares_and_changes_nothing(start: Start, tmp_path: Path, folders: Folders) -> None:
    judge = await start(shadow={"classifier": str(tmp_path / "candidate")}, complexity_threshold=0.7)
    shadow = folders.loaded["candidate"]
    shadow.hold()
    found = [await ask(judge, text) for text in ("0.1 a", "0.68 b", "0.68 b")]
    assert [judgment.assessment.complexity for judgment in found] == [0.1, 0.68, 0.68]
    shadow.gate.set()
    await until(lambda: row(judge, "shadow").judged == 2)
    report = row(judge, "shadow")
    assert (report.judged, report.agreement) == (2, 0.5)
    assert "0.050 of the complexity" in report.detail


async def test_a_failing_shadow_is_logged_once(start: Start, tmp_path: Path, folders: Folders) -> None:
    judge = await start(shadow={"classifier": str(tmp_path / "candidate")})
    folders.loaded["candidate"].assess = lambda texts: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with capture_logs() as logs:
        for text in ("0.1 a", "0.2 b"):
            assert (await ask(judge, text)).by == "classifier"
        await until(lambda: "2 failed" in row(judge, "shadow").detail)
    assert [entry["event"] for entry in logs] == ["shadow_classifier_failed"]


async def test_a_hanging_shadow_skips_rather_than_piles_up(
    start: Start, tmp_path: Path, folders: Folders
) -> None:
    judge = await start(shadow={"classifier": str(tmp_path / "candidate")})
    folders.loaded["candidate"].hold()
    for number in range(100):
        await ask(judge, f"0.1 {number}")
    detail = row(judge, "shadow").detail
    assert int(detail.split(" skipped")[0].rsplit(" ", 1)[1]) >= 30


async def test_a_broken_candidate_does_not_keep_the_router_from_starting(
    start: Start, tmp_path: Path, folders: Folders
) -> None:
    folders.write("candidate", "broken")
    with capture_logs() as logs:
        judge = await start(
            shadow={"classifier": str(tmp_path / "candidate")},
            canary={"classifier": str(tmp_path / "candidate"), "share": 1.0},
        )
    assert (await ask(judge, "0.1 a")).role == "present"
    assert [row(judge, role).detail for role in ("shadow", "canary")] == [
        "refused: The classifier is not valid."
    ] * 2
    assert [entry["event"] for entry in logs].count("classifier_refused") == 2


async def test_a_canary_decides_for_its_tenants_and_its_share(start: Start, tmp_path: Path) -> None:
    folder = str(tmp_path / "candidate")
    judge = await start(canary={"classifier": folder, "share": 0.3, "tenants": ["acme"]})
    assert (await ask(judge, "0.1 a", tenant="acme")).revision == "candidate"
    roles = [(await ask(judge, f"0.1 {number}", key=str(number))).role for number in range(200)]
    assert 30 <= roles.count("canary") <= 90
    again = [(await ask(judge, f"0.1 {number}", key=str(number))).role for number in range(200)]
    assert again == roles


async def test_a_worse_canary_is_rolled_back_and_says_why(start: Start, tmp_path: Path) -> None:
    settings = {
        "classifier": str(tmp_path / "candidate"),
        "share": 0,
        "tenants": ["acme"],
        "min_outcomes": 50,
    }
    judge = await start(canary=settings)
    judgments = await both(judge)
    assert [judgment.role for judgment in judgments.values()] == ["present", "canary"]
    outcomes(judge, judgments, "present", good=180, bad=20)
    with capture_logs() as logs:
        outcomes(judge, judgments, "canary", good=20, bad=49)
    assert (await ask(judge, "0.1 later", tenant="acme")).revision == "packaged"
    report = row(judge, "rolled_back")
    assert report.revision == "candidate"
    assert "canary" in report.detail
    assert [entry["event"] for entry in logs] == ["canary_rolled_back"]


async def test_before_enough_outcomes_nothing_is_rolled_back(start: Start, tmp_path: Path) -> None:
    settings = {
        "classifier": str(tmp_path / "candidate"),
        "share": 0,
        "tenants": ["acme"],
        "min_outcomes": 500,
    }
    judge = await start(canary=settings)
    judgments = await both(judge)
    outcomes(judge, judgments, "present", good=600, bad=0)
    outcomes(judge, judgments, "canary", good=0, bad=499)
    assert row(judge, "canary").revision == "candidate"


async def test_an_equal_canary_stays(start: Start, tmp_path: Path) -> None:
    settings = {
        "classifier": str(tmp_path / "candidate"),
        "share": 0,
        "tenants": ["acme"],
        "min_outcomes": 50,
    }
    judge = await start(canary=settings)
    judgments = await both(judge)
    for _ in range(100):
        outcomes(judge, judgments, "present", good=9, bad=1)
        outcomes(judge, judgments, "canary", good=9, bad=1)
    assert row(judge, "canary").revision == "candidate"


async def test_named_tenants_are_not_compared_where_a_share_is_drawn(start: Start, tmp_path: Path) -> None:
    settings = {
        "classifier": str(tmp_path / "candidate"),
        "share": 0.5,
        "tenants": ["acme"],
        "min_outcomes": 10,
    }
    judge = await start(canary=settings)
    for _ in range(300):
        judge.observe_outcome("present", "packaged", good=True)
        judge.observe_outcome("canary", "candidate", good=False, tenant="acme")
    assert row(judge, "canary").revision == "candidate"


async def test_outcomes_of_another_revision_count_nowhere(start: Start, tmp_path: Path) -> None:
    settings = {"classifier": str(tmp_path / "candidate"), "share": 0.5, "min_outcomes": 10}
    judge = await start(canary=settings)
    for _ in range(300):
        judge.observe_outcome("present", "packaged", good=True)
        judge.observe_outcome("canary", "before", good=False)
    assert "of 0" in row(judge, "canary").detail


async def test_a_roll_back_outlives_a_restart(folders: Folders, tmp_path: Path) -> None:
    canary = {"classifier": str(tmp_path / "candidate"), "share": 1.0, "min_outcomes": 20}
    routing = Routing.model_validate({"canary": canary, "runtime": {"reload_seconds": 0}})
    memory = tmp_path / "state" / "rolled_back.json"
    first = build_judge(routing, folders.load, memory)
    await first.start()
    for _ in range(200):
        first.observe_outcome("present", "packaged", good=True)
        first.observe_outcome("canary", "candidate", good=False)
    await until(memory.exists)
    await first.aclose()
    second = build_judge(routing, folders.load, memory)
    await second.start()
    assert (await ask(second, "0.1 a")).role == "present"
    assert row(second, "rolled_back").revision == "candidate"
    await second.aclose()


async def test_an_unreadable_memory_of_roll_backs_is_no_obstacle(folders: Folders, tmp_path: Path) -> None:
    memory = tmp_path / "rolled_back.json"
    memory.write_text("{")
    judge = build_judge(Routing(), folders.load, memory)
    with capture_logs() as logs:
        await judge.start()
    await judge.aclose()
    assert "rolled_back_canaries_unreadable" in [entry["event"] for entry in logs]


async def test_closing_twice_and_judging_after_it(start: Start) -> None:
    judge = await start()
    await judge.aclose()
    await judge.aclose()
    with pytest.raises(WeirError, match="SHUTTING_DOWN"):
        await ask(judge, "0.1 late")


async def test_closing_before_starting() -> None:
    await build_judge(Routing(), lambda _: 1 / 0).aclose()  # type: ignore[arg-type, return-value]
