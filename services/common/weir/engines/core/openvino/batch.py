"""Unconstrained generation: OpenVINO GenAI's continuous batching, stepped by hand."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino as ov
import openvino_genai as genai

from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed
from weir.engines.core.openvino.speculation import Speculation
from weir.engines.core.speculation import Tally

# Tokens of a step: bounds the time that a long prompt adds to one, and with it that of a cancellation.
_STEP_TOKENS = 128


def _scheduler(max_running: int, cache_gb: float, drafted: int) -> genai.SchedulerConfig:
    config = genai.SchedulerConfig()
    config.cache_size = max(1, round(cache_gb))
    config.enable_prefix_caching = True
    config.dynamic_split_fuse = True
    config.max_num_seqs = max_running
    config.max_num_batched_tokens = max(_STEP_TOKENS, max_running * (1 + drafted))
    return config


@dataclass(slots=True)
class _Live:
    handle: Any
    logprobs: bool
    tally: Tally


class Batch:
    """The batch of running generations and those that wait for a place in it.

    ``save``: write the converted model beside the GGUF file that is loaded.
    """

    def __init__(
        self,
        model: Path,
        stop_ids: list[int],
        *,
        max_running: int,
        cache_gb: float,
        save: bool = False,
        speculation: Speculation | None = None,
    ) -> None:
        self._drafted = speculation.tokens if speculation else 0
        scheduler = _scheduler(max_running, cache_gb, self._drafted)
        properties: dict[str, Any] = {"enable_save_ov_model": True} if save else {}
        if speculation is not None:
            properties |= speculation.properties()
        self._speculation = speculation
        self._pipeline = genai.ContinuousBatchingPipeline(str(model), scheduler, "CPU", properties=properties)
        self._defaults = self._pipeline.get_config()
        self._stop_ids = set(stop_ids)
        self._live: dict[int, _Live] = {}

    def warm_up(self, token: int) -> None:
        """Run one short inference, so that the first request finds everything allocated."""
        self.submit(m.Submit(id=0, prompt=[token] * 8, max_tokens=2))
        while self.has_work():
            self.step()

    def takes(self, request: m.Submit) -> bool:
        """Whether a generation may join the batch, or must be sampled elsewhere."""
        sampled = self._temperature(request) > 0
        return not (sampled and self._speculation is not None and not self._speculation.samples)

    def with_defaults(self, request: m.Submit) -> m.Submit:
        """Return a request in which the model's own sampling is written out."""
        defaults = self._defaults
        return msgspec.structs.replace(
            request,
            temperature=self._temperature(request),
            top_p=defaults.top_p if request.top_p is None else request.top_p,
            top_k=_top_k(defaults.top_k) if request.top_k is None else request.top_k,
        )

    def submit(self, request: m.Submit) -> None:
        """Add a generation to the batch."""
        prompt = ov.Tensor(np.array([request.prompt], np.int64))
        try:
            handle = self._pipeline.add_request(request.id, prompt, self._config(request))
        except RuntimeError as error:
            raise RequestFailed("INVALID_SAMPLING", internal=str(error)) from error
        self._live[request.id] = _Live(handle, request.logprobs, Tally(self._drafted, request.max_tokens))

    def abort(self, request: int) -> None:
        """Take a generation out of the batch; the next step frees its cache."""
        if live := self._live.pop(request, None):
            live.handle.cancel()

    def has_work(self) -> bool:
        """Whether anything runs, waits, or is still to be freed."""
        return bool(self._pipeline.has_non_finished_requests())

    def step(self) -> list[m.Event]:
        """Decode one token of every running generation, with speculation one or more."""
        self._pipeline.step()
        return [event for number, live in list(self._live.items()) if (event := self._read(number, live))]

    def stats(self) -> m.Stats:
        """Return the load; the runtime counts as of the last step."""
        metrics = self._pipeline.get_metrics()
        live = len(self._live)
        running = min(live, metrics.scheduled_requests) if live else 0
        used = round(metrics.cache_usage / 100, 2) if live else 0.0
        return m.Stats(running=running, waiting=live - running, kv_cache_used=used)

    def _config(self, request: m.Submit) -> genai.GenerationConfig:
        config = genai.GenerationConfig()
        config.eos_token_id = next(iter(self._stop_ids), -1)
        config.stop_token_ids = self._stop_ids
        config.max_new_tokens = request.max_tokens
        config.logprobs = int(request.logprobs)
        if self._speculation is not None:
            self._speculation.configure(config)
        temperature = self._temperature(request)
        if temperature > 0:
            config.do_sample = True
            config.temperature = temperature
            config.top_p = self._defaults.top_p if request.top_p is None else request.top_p
            config.top_k = self._defaults.top_k if request.top_k is None else request.top_k
            config.rng_seed = secrets.randbits(32) if request.seed is None else request.seed % 2**32
        return config

    def _temperature(self, request: m.Submit) -> float:
        if request.temperature is not None:
            return request.temperature
        return float(self._defaults.temperature) if self._defaults.do_sample else 0.0

    def _read(self, number: int, live: _Live) -> m.Event | None:
        tokens: list[int] = []
        logprobs: list[float] = []
        reason = genai.GenerationFinishReason.NONE
        while live.handle.can_read():
            for part in live.handle.read().values():
                tokens += part.generated_ids
                logprobs += part.generated_log_probs
                reason = part.finish_reason
        if live.handle.get_status() == genai.GenerationStatus.IGNORED:
            del self._live[number]
            hint = "The request does not fit the engine's KV cache; shorten it or raise kv_cache_gb."
            return RequestFailed("QUEUE_FULL", hint).for_request(number)
        if not tokens:
            return None
        finish = ""
        if reason != genai.GenerationFinishReason.NONE:
            finish = "length" if reason == genai.GenerationFinishReason.LENGTH else "stop"
            del self._live[number]
        drafted, accepted = live.tally.take(len(tokens))
        if tokens[-1] in self._stop_ids:
            tokens, logprobs = tokens[:-1], logprobs[:-1]
        kept = logprobs if live.logprobs else []
        return m.Output(number, tokens, kept, finish=finish, drafted=drafted, accepted=accepted)


def _top_k(default: int) -> int:
    """Read the runtime's "all tokens", the largest number of its type."""
    return default if default < 2**31 else 0
