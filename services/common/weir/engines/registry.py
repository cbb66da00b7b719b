"""Engines by name. A backend's runtime is imported only when one of its engines is created."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from weir.common.config.model import EngineName, LocalModel
from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import Engine
from weir.models.store import ModelStore


class Factory(Protocol):
    """Builds an engine that has not started."""

    def __call__(
        self,
        model_id: str,
        run: LocalModel,
        store: ModelStore,
        *,
        max_context: int,
        sessions_only: bool,
        quantization: str | None,
    ) -> Engine:
        """Build it; touches neither network nor model."""
        ...


def _openvino(
    model_id: str,
    run: LocalModel,
    store: ModelStore,
    *,
    max_context: int,
    sessions_only: bool,
    quantization: str | None,
) -> Engine:
    from weir.engines import openvino

    del quantization  # the file's own
    if run.path is not None:
        return openvino.create(model_id, run.path, run, max_context=max_context, sessions_only=sessions_only)
    model = store.resolve(model_id)
    return openvino.create(
        model.model_id,
        model.path,
        run,
        max_context=max_context,
        quantization=model.quantization,
        stand_in=model.stand_in,
        sessions_only=sessions_only,
    )


def _tensorrt_llm(
    model_id: str,
    run: LocalModel,
    store: ModelStore,
    *,
    max_context: int,
    sessions_only: bool,
    quantization: str | None,
) -> Engine:
    from weir.engines import tensorrt_llm

    del sessions_only  # sessions and generations share one batch and one cache
    return tensorrt_llm.create(model_id, run, store, max_context=max_context, quantization=quantization)


def _openai(
    model_id: str,
    run: LocalModel,
    store: ModelStore,
    *,
    max_context: int,
    sessions_only: bool,
    quantization: str | None,
) -> Engine:
    from weir.engines import openai_compat

    del store, sessions_only, quantization  # the server has the model, and no sessions
    return openai_compat.create(model_id, run, max_context=max_context)


FACTORIES: Mapping[EngineName, Factory] = MappingProxyType(
    {"openvino": _openvino, "tensorrt_llm": _tensorrt_llm, "openai": _openai}
)


def create_engine(
    model_id: str,
    run: LocalModel,
    store: ModelStore,
    *,
    max_context: int,
    sessions_only: bool = False,
    quantization: str | None = None,
) -> Engine:
    """Return the engine that ``run.engine`` names, not started.

    Args:
        model_id: the model's name in the manifest, or on the server of engine "openai".
        store: asked for the model's files where ``run.path`` is unset.
        max_context: tokens of prompt and answer; the model's own limit where that is lower.
        sessions_only: for verifiers: sessions and scoring, without batched generation.
        quantization: the configured name, which engine "tensorrt_llm" holds against the checkpoint's own.

    Raises:
        WeirError: MODEL_UNAVAILABLE where the model's files are not there, UNSUPPORTED where a verifier's
            engine is told to speculate.
    """
    if sessions_only and run.speculative != "none":
        hint = (
            "A verifier judges drafts and generates nothing that its engine could speculate on: set its "
            "run.speculative to 'none'; the drafts come from the worker."
        )
        raise WeirError(ErrorCode.UNSUPPORTED, hint)
    return FACTORIES[run.engine](
        model_id,
        run,
        store,
        max_context=max_context,
        sessions_only=sessions_only,
        quantization=quantization,
    )
