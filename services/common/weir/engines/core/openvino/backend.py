"""The OpenVINO backend: batched generation and raw sequences, in turns on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed, Wake
from weir.engines.core.openvino import ir_cache
from weir.engines.core.openvino.batch import Batch, adapter_properties
from weir.engines.core.openvino.options import Options
from weir.engines.core.openvino.raw_lane import RawLane, RawParts
from weir.engines.core.openvino.raw_model import RawModel
from weir.engines.text.codec import load_codec

log = structlog.get_logger(__name__)
_GENERATION = [
    "logprobs",
    "top_logprobs",
    "json_schema",
    "regex",
    "choices",
    "grammar",
    "prefix_cache",
    "seed",
]
_SAVE = {"enable_save_ov_model": True}


class OpenVinoBackend:
    """Implements ``CoreBackend``.

    Unconstrained generations are batched by OpenVINO GenAI. Those under a constraint or with alternatives per
    token run one by one on the raw model: GenAI compiles grammars inside ``step()``, where one that it
    refuses leaves the whole batch unusable and one that it finds hard stalls every stream; the work of
    llguidance is bounded for each token instead.
    """

    def __init__(self, options: Options, wake: Wake) -> None:
        self._options = options
        self._source = Path(options.model)
        self._folder = self._source if self._source.is_dir() else None
        self._batches = {} if options.sessions_only else self._load_batches()
        self._raw = RawLane(self._load_raw, wake, frozenset(options.stop_ids), options.max_sessions)
        self._answers: list[m.Event] = []
        self._turn = 0
        if options.sessions_only:
            self._raw.load_now().model.warm_up(self._any_token)

    def ready(self) -> m.Ready:
        """Return the facts of the loaded model."""
        options = self._options
        abilities = ["score", "session", "draft"]
        if not options.sessions_only:
            abilities += _GENERATION
        if options.adapters:
            abilities.append("lora")
        return m.Ready(options.max_context, abilities, options.quantization, sorted(options.adapters))

    def submit(self, request: m.Submit) -> None:
        """Take a generation."""
        if self._options.sessions_only:
            raise RequestFailed("UNSUPPORTED", "This engine serves sessions only.")
        guided = request.constraint_kind or request.top_logprobs
        if guided and request.adapter:
            raise RequestFailed("UNSUPPORTED", "An adapter cannot go with a constraint or top_logprobs here.")
        if guided:
            self._raw.generate(request)
        elif request.adapter in self._batches:
            self._batches[request.adapter].submit(request)
        else:
            raise RequestFailed("UNKNOWN_ADAPTER", f"There is no adapter {request.adapter!r}.")

    def abort(self, request: int) -> None:
        """Stop a generation."""
        for batch in self._batches.values():
            batch.abort(request)
        self._raw.abort(request)

    def open_session(self, session: int) -> None:
        """Create an empty session."""
        self._raw.open(session)

    def close_session(self, session: int) -> None:
        """Free a session."""
        self._raw.close_session(session)

    def call(self, call: m.Call) -> None:
        """Queue a session operation or a scoring."""
        self._answers += self._raw.call(call)

    def has_work(self) -> bool:
        """Whether ``step`` would do something."""
        return bool(self._answers) or any(lane.has_work() for lane in self._lanes())

    def step(self) -> Sequence[m.Event]:
        """Advance the next lane that has work."""
        events, self._answers = self._answers, []
        lanes = self._lanes()
        for offset in range(len(lanes)):
            turn = (self._turn + offset) % len(lanes)
            if lanes[turn].has_work():
                self._turn = turn + 1
                return [*events, *lanes[turn].step()]
        return events

    def stats(self) -> m.Stats:
        """Return the load of all lanes."""
        parts = [batch.stats() for batch in self._batches.values()]
        return m.Stats(
            running=sum(part.running for part in parts) + self._raw.generations,
            waiting=sum(part.waiting for part in parts),
            kv_cache_used=max((part.kv_cache_used for part in parts), default=0.0),
        )

    def close(self) -> None:
        """Drop the models; the process ends next."""
        self._batches.clear()

    @property
    def _any_token(self) -> int:
        return self._options.stop_ids[0] if self._options.stop_ids else 0

    def _lanes(self) -> list[Batch | RawLane]:
        return [*self._batches.values(), self._raw]

    def _load_batches(self) -> dict[str, Batch]:
        batches = {"": self._load_batch({})}
        for name, file in self._options.adapters.items():
            batches[name] = self._load_batch({"adapters": adapter_properties(Path(file))})
        for batch in batches.values():
            batch.warm_up(self._any_token)
        return batches

    def _load_batch(self, properties: dict[str, Any]) -> Batch:
        def load(path: Path, extra: dict[str, Any]) -> Batch:
            options = self._options
            return Batch(
                path,
                options.stop_ids,
                max_running=options.max_running,
                cache_gb=options.kv_cache_gb,
                properties=properties | extra,
            )

        folder = self._converted()
        if folder is None:
            return load(self._source, {})
        if ir_cache.is_complete(folder):
            return load(folder, {})
        return ir_cache.convert(self._source, folder, lambda link: load(link, _SAVE))

    def _converted(self) -> Path | None:
        if self._source.is_dir():
            return self._source
        return ir_cache.entry(self._source, Path(self._options.cache)) if self._options.cache else None

    def _load_raw(self) -> RawParts:
        folder = self._converted()
        if folder is None:
            raise RequestFailed("UNSUPPORTED", "Sessions need a folder for the converted model.")
        if not ir_cache.is_complete(folder):
            ir_cache.convert(self._source, folder, self._convert_alone)
        return RawParts(RawModel(folder), load_codec(self._source).llguidance_tokenizer())

    def _convert_alone(self, link: Path) -> object:
        return Batch(link, self._options.stop_ids, max_running=1, cache_gb=1, properties=_SAVE)


def create(options: dict[str, Any], wake: Wake) -> OpenVinoBackend:
    """Load the model.

    Raises:
        RequestFailed: MODEL_UNAVAILABLE where the model cannot be read.
    """
    chosen = msgspec.convert(options, Options)
    if chosen.adapters and Path(chosen.model).is_file():
        hint = "Adapters need the model as an OpenVINO folder; converted GGUF layers have no names."
        raise RequestFailed("MODEL_UNAVAILABLE", hint)
    try:
        return OpenVinoBackend(chosen, wake)
    except (RuntimeError, ValueError, OSError) as error:
        name = Path(chosen.model).name
        hint = f"OpenVINO cannot load {name}; check the file with `weir models verify`."
        raise RequestFailed("MODEL_UNAVAILABLE", hint, internal=str(error)) from error
