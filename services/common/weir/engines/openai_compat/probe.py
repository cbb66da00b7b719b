"""What a server tells about itself and its models, as facts of the engine."""

from __future__ import annotations

from dataclasses import dataclass

from weir.common.errors import ErrorCode, WeirError
from weir.engines.openai_compat.dialects import DIALECTS, OWNERS, Dialect
from weir.engines.openai_compat.wire import ModelCard


@dataclass(frozen=True, slots=True)
class Facts:
    """The model as the server has it; 0 and empty where it does not say."""

    dialect: Dialect
    max_context: int = 0
    vocab_size: int = 0
    file_name: str = ""
    adapters: tuple[str, ...] = ()


def facts_of(cards: list[ModelCard] | None, model: str, server: str) -> Facts:
    """Find the model; a server without a list is taken at its word. ``server``: a dialect's name, or "auto".

    Raises:
        WeirError: MODEL_UNAVAILABLE where the server has other models only.
    """
    if cards is None:
        return Facts(DIALECTS["plain" if server == "auto" else server])
    card = next((card for card in cards if model == card.id or model in card.aliases), None)
    if card is None:
        names = ", ".join(f"'{card.id}'" for card in cards[:8]) or "none"
        raise WeirError(
            ErrorCode.MODEL_UNAVAILABLE,
            f"The server at run.base_url lacks the model '{model}'; set model_id to one it has: {names}.",
        )
    name = OWNERS.get(card.owned_by, "plain") if server == "auto" else server
    return Facts(
        dialect=DIALECTS[name],
        max_context=card.max_model_len or (card.meta.n_ctx if card.meta else 0),
        vocab_size=card.meta.n_vocab if card.meta else 0,
        file_name=card.id.rpartition("/")[2],
        adapters=tuple(other.id for other in cards if other.parent == card.id),
    )
