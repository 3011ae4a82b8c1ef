"""The trace that a request belongs to: the caller's, or a new one that starts here.

Every command carries a `traceparent`, so that one trace shows a payment from HTTP to the gateway and back, also where
no OpenTelemetry SDK is installed. The ids of a new trace are random, as W3C Trace Context asks.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web
from opentelemetry.trace import SpanKind

from http_ingress.door import request_headers
from streams.telemetry import spans

_TRACE_ID_BYTES = 16
_SPAN_ID_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What an appended record carries on."""

    traceparent: str
    tracestate: str | None


@contextmanager
def request_span(request: web.Request, name: str) -> Iterator[Trace]:
    """Run the body in a server span that continues the caller's trace."""
    parent = request_headers.traceparent(request.headers)
    state = request_headers.tracestate(request.headers) if parent is not None else None
    with spans.span(name, kind=SpanKind.SERVER, traceparent=parent, tracestate=state):
        current, current_state = spans.current_trace()
        yield Trace(traceparent=current or _new_traceparent(), tracestate=current_state)


def _new_traceparent() -> str:
    return f"00-{secrets.token_hex(_TRACE_ID_BYTES)}-{secrets.token_hex(_SPAN_ID_BYTES)}-01"
