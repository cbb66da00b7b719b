"""A worker on an engine without sessions drafts text for the verifier: llama.cpp's server, for real."""

from __future__ import annotations

from pathlib import Path

from tests.contract.test_engine_openai import MODEL, served
from tests.services.text_worker import text_bench
from tests.services.verifier_bench import prompt
from weir.common.config import Settings
from weir.engines.core.engine import CoreEngine
from weir.slm_worker.app import build


async def test_the_answer_is_the_verifiers_arg_max_and_takes_fewer_passes(
    embedded_model: Path, verifier_engine: CoreEngine
) -> None:
    async with served(embedded_model) as (url, _):
        settings = Settings.model_validate(
            {
                "services": {"slm_worker": {"port": 0, "drain_delay_s": 0, "drain_grace_s": 1}},
                "tiers": {
                    "slm": {"model_id": MODEL, "run": {"engine": "openai", "base_url": f"{url}/v1"}},
                },
            }
        )
        async with (
            build(settings) as worker,
            text_bench(verifier_engine, f"127.0.0.1:{worker.port}", draft_tokens=8) as bench,
        ):
            answered = await bench.generate(prompt("What is a dog?", max_tokens=48))
    (usage,) = answered.finished.usage
    assert answered.finished.stats.level == "text"
    assert answered.ids == [token.top[0].id for token in answered.tokens]
    # The same model, yet the two engines round differently, and it is often undecided.
    assert usage.accepted_tokens > 0
    assert answered.finished.rounds < len(answered.ids)
