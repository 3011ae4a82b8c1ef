"""The trace context in and out of messages."""

import pytest

from streams.telemetry import spans

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_span_passes_the_callers_context_on_when_no_sdk_is_set() -> None:
    with spans.span("s", traceparent=PARENT, tracestate="vendor=1"):
        assert spans.current_trace() == (PARENT, "vendor=1")
    assert spans.current_trace() == (None, None)


def test_span_counts_a_malformed_context_as_none() -> None:
    with spans.span("s", traceparent="nonsense"):
        assert spans.current_trace() == (None, None)


def test_span_lets_an_exception_through() -> None:
    with pytest.raises(KeyError), spans.span("s", traceparent=PARENT):
        raise KeyError
