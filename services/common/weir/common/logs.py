"""Structured logs: JSON in production, readable lines on a console; prompt text never at info level."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from typing import TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from weir.common.config.model import Observability
from weir.common.context import current_call


def _add_call(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    call = current_call()
    if call.request_id:
        event.setdefault("request_id", call.request_id)
    context = call.span.get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", f"{context.trace_id:032x}")
    return event


_JSON = msgspec.json.Encoder(enc_hook=repr)


def _as_json(event: EventDict, **_: object) -> str:
    return _JSON.encode(event).decode()


class _Stderr:
    """Whatever ``sys.stderr`` is at the time: loggers are kept, and it may be replaced meanwhile.

    Where nobody reads it any more, or its disk is full, what was to be told of goes on all the same.
    """

    def write(self, text: str) -> int:
        with suppress(OSError):
            return sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure_logs(service: str, settings: Observability) -> None:
    """Send structlog and the standard library's loggers to stderr in the configured form."""
    level = getattr(logging, settings.log_level.upper())
    shared: list[Processor] = [
        _add_call,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_json = settings.log_format == "json"
    last: Processor = (
        structlog.processors.JSONRenderer(serializer=_as_json)
        if as_json
        # Its own tracebacks show local variables: prompts, and headers with keys.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    tail: list[Processor] = [structlog.processors.format_exc_info] if as_json else []
    structlog.configure(
        processors=[*shared, *tail, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # A line at once: where stderr has no buffer, `print` would take two system calls for it.
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, last],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    structlog.get_logger(service).debug("logging_configured", level=settings.log_level)
