"""A ``tensorrt_llm`` package made from its API record: it refuses every name, keyword and type not recorded.

It stands in for a GPU runtime outside this machine. Its model is a deterministic function of the last tokens;
its block reuse returns rows for the uncached tail of a prompt only, as the real one does.
"""

from __future__ import annotations

import asyncio
import re
import types
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

VOCAB = 48
_BLOCK = 4
_RECORD = Path(__file__).parents[1] / "data" / "tensorrt_llm_api.yaml"
_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "dict": (dict,),
    "list": (list,),
    "Path": (Path,),
}
Layout = Literal["trailing", "own", "extra", "unusable"]
# What log-probabilities of generated tokens tell: the model's own, those after the temperature, or neither.
Told = Literal["plain", "shaped", "unusable"]


def record() -> dict[str, Any]:
    """The record with its supplement merged in."""
    content: dict[str, Any] = yaml.safe_load(_RECORD.read_text(encoding="utf-8"))
    supplement = content.pop("supplement")
    content["import_from"] |= supplement.pop("import_from")
    content.update(supplement)
    return content


class ApiMismatch(BaseException):
    """A call does not fit the record. No ``Exception``, so that no engine code can take it for a refusal."""


def logits_after(ids: Sequence[int]) -> np.ndarray[Any, Any]:
    """The stand-in model: logits (shape [vocab]) that depend on the last three tokens."""
    seed = 7
    for token in ids[-3:]:
        seed = (seed * 1_000_003 + token + 1) % 2**32
    logits: np.ndarray[Any, Any] = np.random.default_rng(seed).normal(size=VOCAB) * 3
    return logits.astype(np.float32)


def logprobs_after(ids: Sequence[int]) -> np.ndarray[Any, Any]:
    """Natural-log probabilities of the stand-in model (shape [vocab])."""
    logits = logits_after(ids).astype(np.float64)
    logprobs: np.ndarray[Any, Any] = logits - np.log(np.exp(logits).sum())
    return logprobs


def greedy(ids: Sequence[int], count: int) -> list[int]:
    """The stand-in model's own continuation."""
    sequence = list(ids)
    for _ in range(count):
        sequence.append(int(logits_after(sequence).argmax()))
    return sequence[len(ids) :]


class Tensor:
    """As much of a GPU tensor as has to be touched to read it."""

    def __init__(self, values: np.ndarray[Any, Any], *, on_host: bool = False) -> None:
        self._values, self._on_host = values, on_host

    def float(self) -> Tensor:
        return Tensor(self._values.astype(np.float32), on_host=self._on_host)

    def cpu(self) -> Tensor:
        return Tensor(self._values, on_host=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if not self._on_host or self._values.dtype != np.float32:
            raise TypeError("a 16-bit tensor on the GPU has no array")
        return self._values


def fits(value: object, annotation: str, classes: Mapping[str, type]) -> bool:
    """Whether a value has one of the recorded types."""
    return any(_fits_one(value, one.strip(), classes) for one in _alternatives(annotation))


def _alternatives(annotation: str) -> list[str]:
    return re.split(r"\s*\|\s*(?![^\[]*\])", annotation)


def _fits_one(value: object, name: str, classes: Mapping[str, type]) -> bool:
    if name == "None":
        return value is None
    if name.startswith("'"):
        return value == name.strip("'")
    if item := re.fullmatch(r"list\[(.+)\]", name):
        return isinstance(value, list) and all(fits(one, item[1], classes) for one in value)
    if name in _PLAIN:
        return isinstance(value, _PLAIN[name]) and (name == "bool" or not isinstance(value, bool))
    # "DraftTarget/Eagle DecodingConfig" stands for several classes with one ending.
    parts = name.split(" ")
    names = [one + parts[1] for one in parts[0].split("/")] if len(parts) == 2 else [name]
    return any(isinstance(value, classes[one]) for one in names if one in classes)


class Recorded:
    """Base of the classes whose only content is their arguments."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = dict(given)


class FakeTensorrtLlm:
    """The package, and what was asked of it."""

    def __init__(self) -> None:
        self.record = record()
        self.classes: dict[str, type] = {}
        self.created: list[tuple[str, dict[str, Any]]] = []
        self.requests: list[dict[str, Any]] = []
        self.aborted: list[int] = []
        self.shut_down = 0
        self.reports: list[Any] = []
        self.layout: Layout = "trailing"
        self.told: Told = "plain"
        # Tokens that each iteration but the first adds: more than one where the library speculates.
        self.pace = 1
        self.refuse: Exception | None = None
        self.load_error: Exception | None = None
        self.stats_error: Exception | None = None
        self.finish: str | None = None
        for name in self._names():
            self.classes[name] = self._recorded_class(name)
        self.classes["LLM"] = self._llm_class()
        self.classes["QuantAlgo"] = type("QuantAlgo", (), {one: one for one in self.record["QuantAlgo"]})

    def install(self) -> dict[str, types.ModuleType]:
        """Modules for ``sys.modules``: each has the recorded names and no other."""
        modules: dict[str, types.ModuleType] = {
            "tensorrt_llm.executor": types.ModuleType("tensorrt_llm.executor")
        }
        for module, names in self.record["import_from"].items():
            made = modules.setdefault(module, types.ModuleType(module))
            for name in names:
                setattr(made, name, self.classes.get(name, type(name, (), {})))
        return modules

    def arguments(self, name: str) -> dict[str, Any]:
        """Arguments of the only instance that was made of a class."""
        (found,) = [given for one, given in self.created if one == name]
        return found

    def check(self, call: str, given: Mapping[str, Any]) -> None:
        """Hold the arguments of a call against the record."""
        known = self.record[call]
        for name, value in given.items():
            if name not in known:
                raise ApiMismatch(f"{call} has no parameter {name!r}")
            if not fits(value, str(known[name]), self.classes):
                raise ApiMismatch(f"{call}: {name}={value!r} is no {known[name]}")

    def _names(self) -> list[str]:
        imported = {name for names in self.record["import_from"].values() for name in names}
        return sorted(
            imported & {key.removesuffix(".__init__") for key in self.record if key.endswith(".__init__")}
        )

    def _recorded_class(self, name: str) -> type:
        package = self

        def init(self: Recorded, **given: Any) -> None:
            package.check(f"{name}.__init__", given)
            package.created.append((name, given))
            Recorded.__init__(self, given)

        return type(name, (Recorded,), {"__init__": init})

    def _llm_class(self) -> type:
        package = self

        class LLM(Engine):
            def __init__(self, **given: Any) -> None:
                package.check("LLM.__init__", given)
                package.created.append(("LLM", given))
                if package.load_error is not None:
                    raise package.load_error
                super().__init__(package, reuse=given["kv_cache_config"].given["enable_block_reuse"])

        recorded = {*package.record["LLM.methods"], "generate_async", *package.record["LLM.properties"]}
        assert {name for name in vars(Engine) if not name.startswith("_")} <= recorded
        return LLM


class Engine:
    """What an ``LLM`` does once it is loaded."""

    def __init__(self, package: FakeTensorrtLlm, *, reuse: bool) -> None:
        self._package, self._reuse = package, reuse
        self._seen: list[list[int]] = []

    def generate_async(
        self,
        inputs: list[int],
        sampling_params: Any = None,
        lora_request: Any = None,
        *,
        streaming: bool = False,
        **more: Any,
    ) -> RequestOutput:
        given = {"inputs": inputs, "sampling_params": sampling_params, "lora_request": lora_request, **more}
        self._package.check("LLM.generate_async", given | {"streaming": streaming})
        self._package.requests.append(sampling_params.given | given | {"streaming": streaming})
        cached = self._cached(inputs)
        self._seen.append(list(inputs))
        return RequestOutput(self._package, list(inputs), sampling_params.given, cached)

    async def get_stats_async(self, timeout: float | None = None) -> AsyncIterator[Any]:
        await asyncio.sleep(0)
        if self._package.stats_error is not None:
            raise self._package.stats_error
        while self._package.reports:
            yield self._package.reports.pop(0)

    def shutdown(self) -> None:
        self._package.shut_down += 1

    def _cached(self, ids: Sequence[int]) -> int:
        """Tokens whose blocks an earlier request left; the last token is always computed."""
        shared = [0, *(_common(ids, one) for one in self._seen)] if self._reuse else [0]
        return min(max(shared) // _BLOCK * _BLOCK, len(ids) - 1)


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


class RequestOutput:
    """One request: iterated while streaming, or awaited as a whole."""

    def __init__(
        self, package: FakeTensorrtLlm, ids: list[int], params: Mapping[str, Any], cached: int
    ) -> None:
        self._package, self._params, self._cached = package, params, cached
        self._number = len(package.requests)
        self._cancelled = False
        self._random = np.random.default_rng(params.get("seed"))
        self.prompt_token_ids = ids
        self.finished = False
        wanted = package.record["CompletionOutput"]
        empty = dict.fromkeys(wanted) | {"token_ids": [], "logprobs": [], "text": ""}
        self.outputs = [types.SimpleNamespace(**empty)]
        self.context_logits: Tensor | None = None

    def abort(self) -> None:
        self._cancelled = True
        self._package.aborted.append(self._number)

    async def aresult(self) -> RequestOutput:
        async for _ in self:
            pass
        return self

    async def __aiter__(self) -> AsyncIterator[RequestOutput]:
        if self._package.refuse is not None:
            raise self._package.refuse
        self._prefill()
        while not self.finished:
            await asyncio.sleep(0)
            if not self._cancelled:
                for _ in range(self._package.pace if self.outputs[0].token_ids else 1):
                    if not self.finished:
                        self._decode()
                yield self

    def _prefill(self) -> None:
        ids, wanted = self.prompt_token_ids, self._params.get("prompt_logprobs")
        tail = range(self._cached, len(ids))
        if self._params.get("return_context_logits"):
            self.context_logits = Tensor(
                np.stack([logits_after(ids[: at + 1]) for at in tail]).astype(np.float16)
            )
        if wanted:
            self.outputs[0].prompt_logprobs = [self._entry(at, wanted) for at in self._rows(tail)]

    def _rows(self, tail: range) -> list[int]:
        """Positions in the order of the returned entries."""
        return [at - 1 for at in tail if at > 0] if self._package.layout == "own" else list(tail)

    def _entry(self, at: int, wanted: int) -> dict[int, Any]:
        ids = self.prompt_token_ids
        entry = _top(logprobs_after(ids[: at + 1]), wanted)
        if self._package.layout == "extra":
            entry.setdefault(ids[at], types.SimpleNamespace(logprob=-0.01, rank=1))
        if self._package.layout == "unusable":
            entry = {token: types.SimpleNamespace(logprob=-30.0, rank=1) for token in entry}
        return entry

    def _decode(self) -> None:
        output, sequence = self.outputs[0], [*self.prompt_token_ids, *self.outputs[0].token_ids]
        token = self._draw(sequence)
        output.token_ids.append(token)
        output.logprobs.append(_top(self._told(sequence), self._params.get("logprobs") or 1))
        if self._params.get("return_generation_logits"):
            output.generation_logits = Tensor(logits_after(sequence)[None, :].astype(np.float16))
        stopped = token in (self._params.get("stop_token_ids") or ()) and not self._params.get("ignore_eos")
        if stopped or len(output.token_ids) == self._params.get("max_tokens", 32) or self._package.finish:
            output.finish_reason = self._package.finish or ("stop" if stopped else "length")
            self.finished = True

    def _draw(self, sequence: list[int]) -> int:
        """Sample among the best ``top_k`` at the temperature; without a temperature, take the best."""
        temperature, logits = self._params.get("temperature"), logits_after(sequence).astype(np.float64)
        if temperature is None:
            return int(logits.argmax())
        best = np.argsort(-logits, kind="stable")[: self._params.get("top_k") or VOCAB]
        weights = np.exp((logits[best] - logits[best[0]]) / temperature)
        return int(self._random.choice(best, p=weights / weights.sum()))

    def _told(self, sequence: list[int]) -> np.ndarray[Any, Any]:
        heat = {"plain": 1.0, "shaped": self._params.get("temperature") or 1.0, "unusable": 2.0}
        scaled = logprobs_after(sequence) / heat[self._package.told]
        normalized: np.ndarray[Any, Any] = scaled - np.log(np.exp(scaled).sum())
        return normalized


def _top(logprobs: np.ndarray[Any, Any], count: int) -> dict[int, Any]:
    best = np.argsort(-logprobs, kind="stable")[:count]
    return {
        int(one): types.SimpleNamespace(logprob=float(logprobs[one]), rank=rank)
        for rank, one in enumerate(best, start=1)
    }
