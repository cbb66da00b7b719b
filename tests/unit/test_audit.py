"""`weir router audit`: shares, money and examples follow from log, prices and the router's own choice."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.unit.classifier_doubles import ScriptedClassifier
from weir.cli.main import app
from weir.common.config import Settings
from weir.common.config.routing import Routing
from weir.router.audit import auditing
from weir.router.audit.auditing import Question
from weir.router.audit.masking import shown
from weir.router.audit.prices import price_book
from weir.router.audit.reading import read_log
from weir.router.audit.render import WIDTH, short, show, usd
from weir.router.audit.report import Labels, Report
from weir.router.classifier.base import Assessment
from weir.router.classifier.model import Classifier
from weir.router.replay.scenario import ScenarioError, Target

SAMPLE = Path(__file__).parent.parent / "data" / "logs_sample.jsonl"
LABELS = Labels("r1", "train.jsonl", 100, "Small-1", "Large-1")
# The first word is the complexity, as the scripted classifier reads it.
EASY, DOUBTFUL, HARD = "0.1 is easy", "0.5 is doubtful", "0.9 is hard"


class Judge(ScriptedClassifier):
    """Half of what the small model gets wrong, the strong one gets right."""

    def _one(self, text: str) -> Assessment:
        found = super()._one(text)
        return replace(found, gain=found.complexity / 2)


def row(prompt: str, model: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    return {"prompt": prompt, "model": model, "usage": usage, **more}


def audit(
    folder: Path,
    rows: list[dict[str, Any]],
    settings: Settings | None = None,
    question: Question | None = None,
    prices: tuple[float, float] | None = None,
) -> Report:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    configured = settings or Settings()
    book = price_book(configured, *(prices or (None, None)))
    return auditing.audit(
        path, read_log(path), Judge(), LABELS, configured, book, question or Question(),
        lambda share: None,
    )  # fmt: skip


def test_prompts_go_where_the_configured_thresholds_send_them(tmp_path: Path) -> None:
    found = audit(tmp_path, [row(EASY), row(EASY), row(DOUBTFUL), row(HARD)])
    assert {name: group.prompts for name, group in found.tiers.items()} == {
        "slm": 2,
        "hybrid": 1,
        "frontier": 1,
    }
    assert found.total.share == 1


def test_money_is_what_the_price_table_says_and_local_tiers_cost_nothing(tmp_path: Path) -> None:
    # gpt-4o: 2.5 and 10 USD per million.
    found = audit(tmp_path, [row(EASY), row(HARD, "openai/gpt-4o-2024-08-06")])
    each = (1000 * 2.5 + 100 * 10) / 1e6
    assert found.total.today_usd == pytest.approx(2 * each)
    assert found.total.weir_usd == pytest.approx(each)
    assert found.tiers["slm"].saved_usd == pytest.approx(each)
    assert found.tiers["frontier"].saved_usd == 0
    assert not found.unpriced_models


def test_configured_prices_of_local_tiers_count(tmp_path: Path) -> None:
    run = {"input_usd_per_million": 1.0, "output_usd_per_million": 2.0}
    settings = Settings.model_validate({"tiers": {"slm": {"run": run}}})
    found = audit(tmp_path, [row(EASY)], settings)
    assert found.tiers["slm"].weir_usd == pytest.approx((1000 * 1 + 100 * 2) / 1e6)


def test_a_stated_cost_goes_before_the_table(tmp_path: Path) -> None:
    found = audit(tmp_path, [row(HARD, cost=0.5), row(HARD)])
    assert found.total.today_usd == pytest.approx(0.5 + 0.0035)
    assert found.price_bases["as the log states"] == 1


def test_models_without_a_price_are_named_and_priced_as_asked(tmp_path: Path) -> None:
    as_frontier = audit(tmp_path, [row(HARD, "acme-chat-7b")])
    assert as_frontier.unpriced_models == {"acme-chat-7b": 1}
    assert "gpt-4o, the configured frontier model" in as_frontier.fallback_price
    as_asked = audit(tmp_path, [row(HARD, "acme-chat-7b")], prices=(1.0, 10.0))
    assert as_asked.total.today_usd == pytest.approx((1000 * 1 + 100 * 10) / 1e6)
    assert "--input-price" in as_asked.fallback_price


def test_another_threshold_moves_prompts_and_money(tmp_path: Path) -> None:
    rows = [row(EASY), row(DOUBTFUL), row(HARD)]
    found = audit(tmp_path, rows, question=Question(threshold=0.4))
    assert found.tiers["frontier"].prompts == 2
    assert found.total.weir_usd > audit(tmp_path, rows).total.weir_usd


def test_a_quality_target_says_how_much_must_be_escalated_at_least(tmp_path: Path) -> None:
    found = audit(tmp_path, [row(EASY), row(HARD)], question=Question(target=Target("quality", 0.75)))
    # (0.5 - 0.25) / (1 - 0.25)
    assert found.least_escalated == pytest.approx(1 / 3)


def test_a_cost_target_is_held_by_the_highest_bar_that_keeps_it(tmp_path: Path) -> None:
    rows = [row(f"0.{digit} of ten") for digit in range(1, 10)]
    free = audit(tmp_path, rows, question=Question(target=Target("cost", 1.0)))
    held = audit(tmp_path, rows, question=Question(target=Target("cost", 0.001)))
    assert held.total.weir_usd / 9 <= 0.001
    assert 0 < held.total.weir_usd < free.total.weir_usd
    assert held.total.quality < free.total.quality
    assert "which holds $0.001" in held.rule


def test_a_latency_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="weir router replay"):
        audit(tmp_path, [row(EASY)], question=Question(target=Target("latency", 300)))


def test_quality_never_counts_more_than_the_strong_model_brings(tmp_path: Path) -> None:
    found = audit(tmp_path, [row(EASY), row(DOUBTFUL), row(HARD)])
    assert found.total.quality < found.total.quality_today
    # 1 - complexity, and the gain; of which HYBRID brings half.
    assert found.tiers["frontier"].quality == pytest.approx(0.1 + 0.45)
    assert found.tiers["hybrid"].quality == pytest.approx(0.5 + 0.125)


def test_offers_trade_quality_for_money(tmp_path: Path) -> None:
    offers = audit(tmp_path, [row(f"0.{digit} of ten") for digit in range(1, 10)]).offers
    assert len(offers) > 1
    assert [offer.weir_usd for offer in offers] == sorted((o.weir_usd for o in offers), reverse=True)
    assert [offer.kept for offer in offers] == sorted((o.kept for o in offers), reverse=True)


def test_a_month_is_extrapolated_from_timestamps_alone(tmp_path: Path) -> None:
    without = audit(tmp_path, [row(HARD)] * 3)
    assert (without.extrapolation, without.no_extrapolation) == (None, "the log has no timestamps")
    hours = audit(tmp_path, [row(HARD, timestamp=f"2026-03-02T0{hour}:00:00Z") for hour in (1, 4)])
    assert hours.no_extrapolation == "the log spans 3.0 hours, less than a day"
    days = audit(tmp_path, [row(HARD, timestamp=f"2026-03-0{day}T00:00:00Z") for day in (1, 3)])
    assert days.extrapolation is not None
    assert days.extrapolation.days == 2
    assert days.extrapolation.year_today_usd == pytest.approx(2 * 0.0035 / 2 * 365.25)


def test_rules_and_residency_of_the_configuration_hold(tmp_path: Path) -> None:
    local = Settings(routing=Routing(default_residency="local_only"))
    assert audit(tmp_path, [row(HARD)], local).tiers["frontier"].prompts == 0
    rule = {"name": "all by the frontier", "prefer": "frontier"}
    ruled = Settings.model_validate({"routing": {"rules": [rule]}})
    assert audit(tmp_path, [row(EASY)], ruled).tiers["frontier"].prompts == 1


def test_prompts_that_fit_no_tier_are_counted_apart_at_their_present_cost(tmp_path: Path) -> None:
    huge = row(HARD, max_tokens=1_000_000)
    found = audit(tmp_path, [row(EASY), huge])
    assert found.refusals == {"CONTEXT_TOO_LONG": 1}
    assert found.total.prompts == 2
    assert found.total.weir_usd == pytest.approx(0.0035)


def test_answers_that_the_log_lacks_count_as_asked(tmp_path: Path) -> None:
    bare = {"prompt": HARD, "model": "gpt-4o"}
    found = audit(tmp_path, [bare], question=Question(answer_tokens=1000))
    assert found.answer_tokens == 1000
    assert found.total.completion_tokens == 1000
    assert audit(tmp_path, [bare]).answer_tokens == 250
    assert audit(tmp_path, [bare, *[row(EASY)] * 20]).answer_tokens == 100


def test_examples_are_different_prompts_masked_and_in_order(tmp_path: Path) -> None:
    prompts = ["0.1 write to jane.doe@example.com", *["0.2 again and again"] * 50, "0.3 last"]
    found = audit(tmp_path, [row(prompt) for prompt in prompts]).examples["slm"]
    assert [example.prompt for example in found] == [
        "0.1 write to [EMAIL]",
        "0.2 again and again",
        "0.3 last",
    ]
    assert audit(tmp_path, [row(EASY)], question=Question(examples=False)).examples == {}


def test_personal_data_is_counted_and_what_is_shown_is_clean() -> None:
    text = "call +1 415 555 2671\x1b[31m now" + " and wait" * 100
    line = shown(text)
    assert line.startswith("call [PHONE][31m now and wait")
    assert len(line) <= 150
    assert "\x1b" not in line


def test_equal_prompts_are_judged_once(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("0.1 the same\n" * 100)
    judge, settings = ScriptedClassifier(), Settings()
    book = price_book(settings, None, None)
    shares: list[float] = []
    auditing.audit(path, read_log(path), judge, LABELS, settings, book, Question(), shares.append)
    assert judge.asked == ["0.1 the same"]
    assert shares[-1] == 1


def test_the_report_fits_a_hundred_columns_and_says_what_it_rests_on(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    found = audit(tmp_path, [*rows, row("0.5 [bold]no markup[/]"), row(HARD, cost=-3)])
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    show(found, console)
    text = console.export_text()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= WIDTH
    assert "0.5 [bold]no markup[/]" in text
    for said in (
        "Quality figures are estimates", "Small-1", "Large-1", "Local inference counted as free",
        "acme-chat-7b", "cost is -3, so it is left aside", "personal data: email (1), phone (1)", "…",
    ):  # fmt: skip
        assert said in " ".join(text.split()), said
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        (0, "$0.00"),
        (0.00001, "<$0.0001"),
        (0.0042, "$0.0042"),
        (12.3, "$12.30"),
        (1234.5, "$1,234"),
        (-2, "-$2.00"),
    ],
)
def test_amounts_have_as_many_places_as_they_need(amount: float, written: str) -> None:
    assert usd(amount) == written


def test_counts_are_written_short() -> None:
    assert [short(count) for count in (0, 950, 1234, 56_000, 3.4e6, 2e9)] == [
        "0", "950", "1.2k", "56k", "3.4M", "2.0B",
    ]  # fmt: skip


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command loads a scripted classifier, whatever artifact is packaged."""
    monkeypatch.setattr(Classifier, "load", lambda folder=None: ScriptedClassifier())
    monkeypatch.setattr(auditing, "labels_of", lambda classifier: LABELS)


@pytest.mark.usefixtures("scripted")
def test_the_command_prints_one_json_object() -> None:
    result = CliRunner().invoke(
        app, ["router", "audit", str(SAMPLE), "--json", "--no-examples", "--limit", "10"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["rows"], found["judged"], found["examples"]) == (36, 10, {})


@pytest.mark.usefixtures("scripted")
def test_the_command_prints_a_table() -> None:
    result = CliRunner().invoke(app, ["router", "audit", str(SAMPLE)])
    assert result.exit_code == 0, result.output
    assert "36 prompts in logs_sample.jsonl" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--input-price", "1"], "together", id="half a price"),
        pytest.param(["--threshold", "0.5", "--target", "quality=0.9"], "either", id="two rules"),
        pytest.param(["--target", "speed=9"], "is no target", id="unknown target"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["router", "audit", str(SAMPLE), *arguments])
    assert result.exit_code == 1
    assert said in result.stderr


def test_the_command_shows_the_accepted_forms_for_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(bytes(range(256)))
    result = CliRunner().invoke(app, ["router", "audit", str(path)])
    assert result.exit_code == 1
    assert "Accepted are" in result.stderr
