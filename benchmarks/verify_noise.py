"""How much noise on a model's weights makes it agree with the model itself how often?

uv run python benchmarks/verify_noise.py [LEVEL ...]

For each level the noisy model answers real prompts greedily, and the model without noise says, token by
token and given the same text before it, what it would have written. Their agreement is the acceptance that a
drafter without noise has with a noisy verifier; making the verifier wider changes nothing about it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path

from weir.common.config.model import EMBEDDED_MODEL, LocalModel, Models
from weir.engines.base import ChatMessage
from weir.engines.core.engine import CoreEngine
from weir.engines.openvino import create
from weir.models.gguf_stand_in import Noise, write_stand_in
from weir.models.store import ModelStore

PROMPTS, TOKENS = 20, 32
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.3)
Text = tuple[tuple[ChatMessage, ...], list[int]]


def _prompts() -> list[tuple[ChatMessage, ...]]:
    lines = (Path(__file__).parent / "data" / "mixed.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = lines[:: len(lines) // PROMPTS][:PROMPTS]
    return [(ChatMessage("user", json.loads(line)["turns"][0]),) for line in chosen]


async def _answer(engine: CoreEngine, messages: tuple[ChatMessage, ...]) -> Text:
    ids: list[int] = []
    fed = engine.codec.encode_chat(messages)
    async with aclosing(await engine.open_session()) as session:
        while len(ids) < TOKENS and not engine.codec.stop_ids & set(ids):
            [prediction] = await session.extend(fed, last_only=True)
            fed = [prediction.top[0].id]
            ids += fed
    return messages, ids


async def _agreed(engine: CoreEngine, messages: tuple[ChatMessage, ...], ids: list[int]) -> int:
    prompt = engine.codec.encode_chat(messages)
    async with aclosing(await engine.open_session()) as session:
        predictions = await session.extend([*prompt, *ids])
    expected = [prediction.top[0].id for prediction in predictions[len(prompt) - 1 : -1]]
    return sum(a == b for a, b in zip(expected, ids, strict=True))


async def _started(path: Path) -> CoreEngine:
    engine = create(path.stem, path, LocalModel(), max_context=8192)
    await engine.start()
    return engine


async def _acceptance(plain: CoreEngine, source: Path, noise: Noise, folder: Path) -> float:
    path = folder / f"noise-{noise.level}.gguf"
    write_stand_in(source, path, noise=noise)
    async with aclosing(await _started(path)) as noisy:
        texts = [await _answer(noisy, messages) for messages in _prompts()]
    agreed = [await _agreed(plain, messages, ids) for messages, ids in texts]
    return sum(agreed) / sum(len(ids) for _, ids in texts)


async def main(levels: list[float]) -> None:
    """Print the acceptance at each level."""
    source = (await ModelStore(Models()).pull(EMBEDDED_MODEL)).path
    with tempfile.TemporaryDirectory() as folder:
        async with aclosing(await _started(source)) as plain:
            for level in levels:
                share = await _acceptance(plain, source, Noise(level), Path(folder))
                print(f"noise {level:g}: acceptance {share:.3f}", flush=True)


if __name__ == "__main__":
    asyncio.run(main([float(level) for level in sys.argv[1:]] or list(LEVELS)))
