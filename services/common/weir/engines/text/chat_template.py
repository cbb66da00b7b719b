"""Chat templates, rendered as the ``transformers`` library renders them, in a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from weir.common.errors import ErrorCode, WeirError
from weir.engines.base import ChatMessage

# For base models, which come without a template: the turns as they are, one below the other.
PLAIN = "{{ messages | map(attribute='content') | join('\\n') }}"
# Marks where a final assistant turn ends; no template contains or trims it.
_END = "\u2063weir:open\u2063"


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


class ChatTemplate:
    """A compiled template with the names of the model's begin and end tokens."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        self._template = environment.from_string(source or PLAIN)
        self._names = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return the prompt's text; a final assistant turn is left open, to be continued.

        Raises:
            WeirError: INVALID_PROMPT where the template refuses the conversation.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        continued = bool(turns) and turns[-1]["role"] == "assistant"
        if continued:
            turns[-1]["content"] += _END
        try:
            text = self._template.render(messages=turns, add_generation_prompt=not continued, **self._names)
        except TemplateError as error:
            problem = f"the model's chat template refuses this conversation ({error})"
            raise WeirError(
                ErrorCode.INVALID_PROMPT, f"prompt.messages: {problem}.", fields={"prompt.messages": problem}
            ) from error
        return text.partition(_END)[0] if continued else text
