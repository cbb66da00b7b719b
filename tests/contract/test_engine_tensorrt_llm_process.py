"""The TensorRT-LLM engine across its process, with the package's double importable there."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.contract.trtllm_record import VOCAB, greedy, logprobs_after, record
from weir.common.config.model import LocalModel, Models
from weir.common.errors import ErrorCode, WeirError
from weir.engines import tensorrt_llm
from weir.engines.base import Capability, ChatMessage, FinishReason, GenerationRequest, Sampling
from weir.engines.core.engine import CoreEngine
from weir.engines.tensorrt_llm import availability
from weir.models.store import ModelStore

REPOSITORY = Path(__file__).parents[2]
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def write_package(folder: Path) -> None:
    """Write the recorded modules as importable files over one shared double."""
    (folder / "the_double.py").write_text(
        "from tests.contract.trtllm_record import FakeTensorrtLlm\nMODULES = FakeTensorrtLlm().install()\n"
    )
    for module in [*record()["import_from"], "tensorrt_llm.executor"]:
        parts = module.split(".")
        package = folder.joinpath(*parts)
        package.mkdir(parents=True, exist_ok=True)
        names = f"globals().update(vars(MODULES[{module!r}]) | {{'__path__': __path__}})\n"
        (package / "__init__.py").write_text("from the_double import MODULES\n" + names)


def write_checkpoint(folder: Path) -> None:
    """Write a checkpoint folder of the double's vocabulary: one printable letter for each id."""
    folder.mkdir()
    letters = {chr(0x30 + token): token for token in range(VOCAB - 1)}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": TEMPLATE, "eos_token": "<|im_end|>"})
    )
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 128}))


@pytest_asyncio.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CoreEngine]:
    write_package(tmp_path)
    write_checkpoint(tmp_path / "checkpoint")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(REPOSITORY)]))
    monkeypatch.setattr(availability, "gpu_count", lambda: 1)
    run = LocalModel(engine="tensorrt_llm", path=tmp_path / "checkpoint", max_running=4)
    made = tensorrt_llm.create("tiny", run, ModelStore(Models()), max_context=4096)
    yield made
    await made.aclose()


async def test_the_engine_serves_through_its_process(engine: CoreEngine) -> None:
    await engine.start()
    assert (engine.info.engine, engine.info.quantization, engine.info.max_context) == (
        "tensorrt_llm",
        "none",
        127,
    )
    assert Capability.SESSION in engine.info.capabilities

    prompt = engine.codec.encode("0123456")
    request = GenerationRequest(
        "r", (ChatMessage("user", "0123456"),), Sampling(max_tokens=6, temperature=0.0)
    )
    async with aclosing(engine.generate(request)) as stream:
        steps = [step async for step in stream]
    stops = engine.codec.stop_ids
    expected = greedy(prompt, 6)
    cut = next((at for at, token in enumerate(expected) if token in stops), 6)
    assert [token.id for step in steps for token in step.tokens] == expected[:cut]
    assert "".join(step.text for step in steps) == "".join(chr(0x30 + token) for token in expected[:cut])
    assert steps[-1].finish_reason is (FinishReason.LENGTH if cut == 6 else FinishReason.STOP)

    scored = await engine.score(prompt, [3, 4], top=1)
    assert scored[0].logprob == pytest.approx(float(logprobs_after(prompt)[3]), abs=0.02)
    session = await engine.open_session()
    (*_, last) = await session.extend(prompt)
    assert last.top[0].id == greedy(prompt, 1)[0]
    await session.rewind(2)
    assert session.length == 2


async def test_a_cancelled_request_leaves_no_load(engine: CoreEngine) -> None:
    changed = asyncio.Event()
    engine.on_load_change(changed.set)
    await engine.start()
    request = GenerationRequest("r", (ChatMessage("user", "55555"),), Sampling(temperature=0.0))
    async with aclosing(engine.generate(request)) as stream:
        await anext(stream)
    while engine.load.running:
        await changed.wait()
        changed.clear()


async def test_a_gguf_file_is_refused_with_what_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weir.engines.tensorrt_llm.factory.require_tensorrt_llm", lambda: None)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    run = LocalModel(engine="tensorrt_llm", path=file)
    engine = tensorrt_llm.create("m", run, ModelStore(Models()), max_context=64)
    with pytest.raises(WeirError) as refused:
        await engine.start()
    assert refused.value.code == ErrorCode.MODEL_UNAVAILABLE
    assert "Hugging Face checkpoint folder" in refused.value.hint
