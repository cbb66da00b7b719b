"""What an attempt used: as its provider reports it, or as an estimate where the report did not come."""

from __future__ import annotations

from weir.frontier_proxy.domain import TokenCounts
from weir.frontier_proxy.estimates import prompt_estimate, token_estimate
from weir.frontier_proxy.providers.base import Delta, Finished, ProviderRequest


class Bill:
    """Follows one attempt's events. ``answered`` says that the provider may charge for it."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._unseen: list[str] = []
        self._counts = TokenCounts()
        self._complete = False
        self.answered = False

    def add(self, event: Delta | Finished) -> None:
        """Take the next event."""
        self.answered = True
        self._counts = event.counts or self._counts
        if isinstance(event, Finished):
            self._complete = event.counts is not None
            return
        self._complete = event.final and event.counts is not None
        if event.text:
            self._texts.append(event.text)
        if event.unseen:
            self._unseen.append(event.unseen)

    def counts(self, request: ProviderRequest) -> TokenCounts:
        """Return the tokens so far, estimated where the stream ended before its report."""
        told = self._counts
        if self._complete or not self.answered:
            return told
        # Output counts on the way, where there are any, lag behind the text that has come.
        reasoning = max(told.reasoning, token_estimate("".join(self._unseen)))
        completion = max(told.completion, reasoning + token_estimate("".join(self._texts)))
        prompt = told.prompt or prompt_estimate(request.messages, request.prefix, request.constraint)
        return TokenCounts(prompt, completion, told.cached, told.cache_write, reasoning)
