"""The thread that answers questions, so that a long report keeps no reservation waiting."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from weir.frontier_proxy.ledger.reports import Reports
from weir.frontier_proxy.ledger.requests import Question, deliver, pass_over, unavailable


class Reading:
    """Answers in the order of the questions.

    Args:
        reports: what is asked; used by this thread alone.
        advice: what to do where it cannot be read.
        loop: where those who asked wait.
    """

    def __init__(self, reports: Reports, advice: str, loop: asyncio.AbstractEventLoop) -> None:
        self._reports, self._advice, self._loop = reports, advice, loop
        self._thread = ThreadPoolExecutor(1, "weir-ledger-reads")

    def ask(self, question: Question) -> None:
        """Have a question answered: with what is written by now."""
        self._thread.submit(self._serve, question)

    def close(self) -> None:
        """Answer what was asked, and disconnect."""
        self._thread.submit(self._reports.close)
        self._thread.shutdown()

    def _serve(self, question: Question) -> None:
        pass_over(self._loop, deliver, [(question.outcome, self._answer(question))])

    def _answer(self, question: Question) -> Any:
        try:
            self._reports.open()
            return question.work(self._reports)
        except Exception as error:
            # It is raised where it was asked; the next question connects anew.
            self._reports.close()
            return unavailable(self._advice, error)
