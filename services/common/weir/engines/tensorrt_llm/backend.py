"""The core backend: carries the core loop's calls to TensorRT-LLM's asyncio interface and its events back."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from weir.engines.base import Capability, Sampling
from weir.engines.core import messages as m
from weir.engines.core.backend import RequestFailed, Wake
from weir.engines.core.speculation import Tally
from weir.engines.tensorrt_llm.api import Api
from weir.engines.tensorrt_llm.drafting import Drafter
from weir.engines.tensorrt_llm.load import LoadWatch
from weir.engines.tensorrt_llm.outputs import OutputDelta, row_message
from weir.engines.tensorrt_llm.runner import Job, LoopThread
from weir.engines.tensorrt_llm.sampling import guided_arguments, sampling_arguments
from weir.engines.tensorrt_llm.scoring import Scorer
from weir.engines.tensorrt_llm.session import TensorrtSession


class TensorrtBackend:
    """Implements ``CoreBackend`` over a loaded ``LLM``, whose calls run on a thread with an event loop."""

    def __init__(
        self,
        api: Api,
        llm: Any,
        ready: m.Ready,
        *,
        defaults: Sampling,
        stop_ids: Sequence[int],
        adapters: dict[str, Any],
        parallel: int,
        speculated: int,
        thread: LoopThread,
        wake: Wake,
    ) -> None:
        self._api, self._llm, self._ready = api, llm, ready
        self._defaults, self._stop_ids, self._adapters = defaults, tuple(stop_ids), adapters
        self._speculated = speculated
        self._scorer, self._drafter = Scorer(llm, api, parallel=parallel), Drafter(llm, api)
        self._thread, self._wake = thread, wake
        self._events: deque[m.Event] = deque()
        self._generations: dict[int, Job] = {}
        self._sessions: dict[int, TensorrtSession] = {}
        self._fatal: BaseException | None = None
        self._load = LoadWatch(llm, wake)
        thread.job(lambda: self._guard(self._load.run, None)).start()

    def warm_up(self, ids: Sequence[int]) -> None:
        """Run a short text once, learning from it how scores and drafts are to be read."""
        self._thread.run(self._calibrate(ids))

    def ready(self) -> m.Ready:
        """Return the facts of the loaded model."""
        return self._ready

    def submit(self, request: m.Submit) -> None:
        """Take a generation. Raises RequestFailed for an unknown adapter or a broken constraint."""
        if request.adapter and request.adapter not in self._adapters:
            raise RequestFailed("UNKNOWN_ADAPTER", f"There is no adapter '{request.adapter}' in this worker.")
        guide = guided_arguments(request.constraint_kind, request.constraint_value)
        arguments = sampling_arguments(request, self._defaults, self._stop_ids)
        if guide is not None:
            arguments["guided_decoding"] = self._api.guided_decoding_params(**guide)
        params = self._api.sampling_params(**arguments)
        job = self._generations[request.id] = self._thread.job(
            lambda: self._guard(
                lambda: self._generate(request, params), lambda error: self._reject(request, error)
            ),
            on_end=lambda: self._forget(request.id),
        )
        job.start()

    def abort(self, request: int) -> None:
        """Stop a generation; the library takes it out of the batch before its next step."""
        running = self._generations.get(request)
        if running is not None:
            running.cancel()

    def open_session(self, session: int) -> None:
        """Create an empty session."""
        self._sessions[session] = TensorrtSession(
            self._scorer, self._drafter, max_context=self._ready.max_context
        )

    def close_session(self, session: int) -> None:
        """Forget a session; its blocks stay reusable until others need the room."""
        self._sessions.pop(session, None)

    def call(self, call: m.Call) -> None:
        """Queue a session operation or a scoring."""
        work = self._answer(call, None if isinstance(call, m.Score) else self._session(call.session))
        self._thread.job(lambda: self._guard(work, lambda error: error.for_call(call.call))).start()

    def has_work(self) -> bool:
        """Whether there is something to hand over."""
        return bool(self._events) or self._fatal is not None

    def step(self) -> Sequence[m.Event]:
        """Hand over what has come since; raises what broke the library, which ends the process."""
        if self._fatal is not None:
            raise RuntimeError("TensorRT-LLM failed") from self._fatal
        return [self._events.popleft() for _ in range(len(self._events))]

    def stats(self) -> m.Stats:
        """Return the present load."""
        return self._load.stats(len(self._generations))

    def close(self) -> None:
        """Abort what runs and free the GPU."""
        self._thread.close()
        self._llm.shutdown()

    async def _calibrate(self, ids: Sequence[int]) -> None:
        if Capability.SCORE not in self._ready.capabilities:
            await self._scorer.warm_up(ids)
            return
        await self._scorer.calibrate(ids)
        await self._drafter.calibrate(ids, await self._scorer.following(ids))

    async def _generate(self, request: m.Submit, params: Any) -> None:
        adapter = self._adapters.get(request.adapter)
        output = self._llm.generate_async(request.prompt, params, lora_request=adapter, streaming=True)
        tally = Tally(self._speculated, request.max_tokens)
        delta = OutputDelta(request, frozenset(self._stop_ids), tally)
        try:
            async for result in output:
                event = delta.advance(result.outputs[0])
                if event is not None:
                    self._emit(event)
        except asyncio.CancelledError:
            output.abort()
            raise

    def _session(self, number: int) -> TensorrtSession:
        session = self._sessions.get(number)
        if session is None:
            raise RequestFailed("INTERNAL", internal=f"no session {number}")
        return session

    def _answer(
        self, call: m.Call, session: TensorrtSession | None
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        async def answer() -> None:
            if isinstance(call, m.Score):
                infos = await self._scorer.score(call.prompt, call.continuation, top=call.top)
                self._emit(m.Extended(call.call, [row_message(one.top, one.logprob) for one in infos]))
            elif isinstance(call, m.Extend) and session:
                self._emit(await session.extend(call))
            elif isinstance(call, m.Draft) and session:
                self._emit(await session.draft(call))

        return answer

    async def _guard(
        self, work: Callable[[], Coroutine[Any, Any, None]], failed: Callable[[RequestFailed], m.Event] | None
    ) -> None:
        """Turn a failure of one request into its event, and anything else into the end of the process."""
        try:
            await work()
        except RequestFailed as error:
            self._fail(error, error, failed)
        except Exception as error:
            self._fail(error, refusal(error), failed)

    def _fail(
        self,
        error: Exception,
        refused: RequestFailed | None,
        failed: Callable[[RequestFailed], m.Event] | None,
    ) -> None:
        if refused is None or failed is None:
            self._fatal = error
            self._wake()
        else:
            self._emit(failed(refused))

    def _reject(self, request: m.Submit, error: RequestFailed) -> m.Event:
        if request.constraint_kind and error.code == "INVALID_REQUEST":
            hint = "The engine cannot compile the output constraint; correct or simplify it."
            error = RequestFailed("INVALID_CONSTRAINT", hint, internal=error.internal)
        return error.for_request(request.id)

    def _forget(self, request: int) -> None:
        self._generations.pop(request, None)
        self._wake()

    def _emit(self, event: m.Event) -> None:
        self._events.append(event)
        self._wake()


def refusal(error: Exception) -> RequestFailed | None:
    """Tell a request that the library refuses from a failure of the library itself (``None``).

    The library raises its ``RequestError`` and ``ValueError`` for the request at hand.
    """
    if isinstance(error, ValueError) or type(error).__name__ == "RequestError":
        return RequestFailed("INVALID_REQUEST", "The engine refuses this request.", internal=str(error))
    return None
