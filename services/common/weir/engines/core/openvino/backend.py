"""The OpenVINO backend: batched generation and raw sequences, in turns on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed, Wake
from weir.engines.core.openvino import exactness, ir_cache
from weir.engines.core.openvino.batch import Batch
from weir.engines.core.openvino.options import Options
from weir.engines.core.openvino.paged_model import PagedModel
from weir.engines.core.openvino.raw_lane import RawLane, RawParts
from weir.engines.core.openvino.speculation import Speculation, folder_with_tokenizer
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


class OpenVinoBackend:
    """Implements ``CoreBackend``.

    Most generations are batched by OpenVINO GenAI. Three kinds run on the paged model instead:
    those under a constraint, because GenAI compiles grammars inside ``step()``, where one that it refuses
    leaves the whole batch unusable and one that it finds hard stalls every stream, while the work of
    llguidance is bounded for each token; those with alternatives per token, which GenAI does not give; and
    seeded sampling, because a token's logits depend on the rest of the batch there, and here they do not.
    With a draft model in the batch, all sampling runs on the raw model (see ``Speculation.samples``).
    """

    def __init__(self, options: Options, wake: Wake) -> None:
        self._options = options
        self._source = Path(options.model)
        self._folder = self._source if self._source.is_dir() else None
        self._speculation: Speculation | None = None
        self._batch = None if options.sessions_only else self._load_batch()
        self._raw = RawLane(self._load_raw, wake, frozenset(options.stop_ids), options.max_sessions)
        self._turn = 0
        if options.sessions_only or (self._speculation and not self._speculation.samples):
            self._raw.load_now()

    def ready(self) -> m.Ready:
        """Return the facts of the loaded model."""
        options = self._options
        abilities = ["score", "session", "draft"]
        if not options.sessions_only:
            abilities += _GENERATION
            abilities += ["speculative"] if options.speculative != "none" else []
        return m.Ready(options.max_context, abilities, options.quantization)

    def submit(self, request: m.Submit) -> None:
        """Take a generation."""
        if self._batch is None:
            raise RequestFailed("UNSUPPORTED", "This engine serves sessions only.")
        seeded = request.seed is not None and (request.temperature or 0) > 0
        if request.constraint_kind or request.top_logprobs or seeded:
            self._raw.generate(request)
        elif not self._batch.takes(request):
            self._raw.generate(self._batch.with_defaults(request))
        else:
            self._batch.submit(request)

    def abort(self, request: int) -> None:
        """Stop a generation."""
        if self._batch is not None:
            self._batch.abort(request)
        self._raw.abort(request)

    def open_session(self, session: int) -> None:
        """Create an empty session."""
        self._raw.open(session)

    def close_session(self, session: int) -> None:
        """Free a session."""
        self._raw.close_session(session)

    def call(self, call: m.Call) -> None:
        """Queue a session operation or a scoring."""
        self._raw.call(call)

    def has_work(self) -> bool:
        """Whether ``step`` would do something."""
        return any(lane.has_work() for lane in self._lanes())

    def step(self) -> Sequence[m.Event]:
        """Advance the next lane that has work."""
        lanes = self._lanes()
        for offset in range(len(lanes)):
            turn = (self._turn + offset) % len(lanes)
            if lanes[turn].has_work():
                self._turn = turn + 1
                return lanes[turn].step()
        return []

    def stats(self) -> m.Stats:
        """Return the load of all lanes."""
        batch = m.Stats() if self._batch is None else self._batch.stats()
        return m.Stats(
            running=batch.running + self._raw.generations,
            waiting=batch.waiting + self._raw.waiting,
            kv_cache_used=max(batch.kv_cache_used, self._raw.cache_used),
        )

    def close(self) -> None:
        """Drop the models; the process ends next."""
        self._batch = None

    @property
    def _any_token(self) -> int:
        return self._options.stop_ids[0] if self._options.stop_ids else 0

    def _lanes(self) -> list[Batch | RawLane]:
        return [self._raw] if self._batch is None else [self._batch, self._raw]

    def _load_batch(self) -> Batch:
        self._speculation = self._prepare_speculation()
        folder = self._converted()
        if folder is None:
            batch = self._new_batch(self._source)
        elif ir_cache.is_complete(folder):
            batch = self._new_batch(folder)
        else:
            batch = ir_cache.convert(self._source, folder, lambda link: self._new_batch(link, save=True))
        batch.warm_up(self._any_token)
        return batch

    def _new_batch(self, model: Path, *, save: bool = False) -> Batch:
        options = self._options
        return Batch(
            model,
            options.stop_ids,
            max_running=options.max_running,
            cache_gb=options.kv_cache_gb,
            save=save,
            speculation=self._speculation,
        )

    def _prepare_speculation(self) -> Speculation | None:
        options = self._options
        if options.speculative == "none":
            return None
        draft = None
        if options.speculative == "draft_model":
            given = Path(options.speculative_model)
            cache = Path(options.cache or given.parent / ".openvino")
            folder_with_tokenizer(self._source, cache, self._convert_alone)
            draft = folder_with_tokenizer(given, cache, self._convert_alone)
        return Speculation(options.speculative_tokens, options.speculative_max_ngram, draft)

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
        return RawParts(self._paged_model(folder), load_codec(self._source).llguidance_tokenizer())

    def _paged_model(self, folder: Path) -> PagedModel:
        """Compile for speed where that keeps results exact on this processor, else for precision alone."""
        cache_bytes = round(self._options.kv_cache_gb * 2**30)
        model = PagedModel(folder, cache_bytes)
        if difference := exactness.spread(model):
            log.warning("rounded_activations_inexact", difference=difference, going_on="float32")
            model = PagedModel(folder, cache_bytes, rounded=False)
        log.info("sessions_ready", exact_to=exactness.spread(model) if difference else 0.0)
        return model

    def _convert_alone(self, link: Path) -> Batch:
        return Batch(link, self._options.stop_ids, max_running=1, cache_gb=1, save=True)


def create(options: dict[str, Any], wake: Wake) -> OpenVinoBackend:
    """Load the model.

    Raises:
        RequestFailed: MODEL_UNAVAILABLE where the model cannot be read.
    """
    chosen = msgspec.convert(options, Options)
    try:
        return OpenVinoBackend(chosen, wake)
    except (RuntimeError, ValueError, OSError) as error:
        name = Path(chosen.model).name
        hint = f"OpenVINO cannot load {name}; check the file with `weir models verify`."
        raise RequestFailed("MODEL_UNAVAILABLE", hint, internal=str(error)) from error
