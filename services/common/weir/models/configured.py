"""Which models of the store a configuration runs."""

from __future__ import annotations

from weir.common.config import Settings, model
from weir.models.manifest import Manifest


def configured_models(settings: Settings, manifest: Manifest) -> list[str]:
    """Return the ids to pull before the services start, without repetition.

    Models with a path of their own, and those that a server elsewhere runs, need no pulling. An id that the
    manifest lacks is answered by the embedded stand-in, so that one is needed.
    """
    slm, hybrid = settings.tiers.slm, settings.tiers.hybrid
    wanted = [(slm.model_id, slm.run), (hybrid.verifier_model, hybrid.run)]
    ids = [model_id for model_id, run in wanted if _from_store(run)]
    return list(dict.fromkeys(i if i in manifest.models else model.EMBEDDED_MODEL for i in ids))


def has_stand_in(model_id: str, run: model.LocalModel, manifest: Manifest) -> bool:
    """Whether the embedded model answers for ``model_id``, which the manifest lacks."""
    return _from_store(run) and model_id not in manifest.models


def _from_store(run: model.LocalModel) -> bool:
    return run.path is None and run.engine != "openai"
