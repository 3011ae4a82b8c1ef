"""The trace context of W3C, in and out of messages, and spans at the shells.

Called by the shells. A command carries the `traceparent` of the request that made it (CloudEvents' distributed tracing
extension); each component continues it in what it appends, so that one trace shows a payment from HTTP to the gateway
and back. Without an SDK nothing is recorded and the caller's context still passes through.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

SCOPE = "payment_engine"

_PROPAGATOR = TraceContextTextMapPropagator()
_tracer = trace.get_tracer(SCOPE)


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    traceparent: str | None = None,
    tracestate: str | None = None,
    **attributes: str | int,
) -> Iterator[None]:
    """Run the body in a span that continues the given context, or the current one when none is given.

    A malformed traceparent counts as none. Exceptions are recorded by their class only: their text may hold a token.
    """
    carrier = {"traceparent": traceparent or "", "tracestate": tracestate or ""}
    parent = _PROPAGATOR.extract(carrier) if traceparent else otel_context.get_current()
    with _tracer.start_as_current_span(
        name, context=parent, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise


def current_trace() -> tuple[str | None, str | None]:
    """Return the `traceparent` and `tracestate` that a message made now should carry."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent"), carrier.get("tracestate")
