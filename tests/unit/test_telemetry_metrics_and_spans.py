"""The catalogue against the OpenTelemetry SDK, and the trace context in and out."""

from typing import get_args

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from streams.telemetry import spans
from streams.telemetry.metrics import CATALOGUE, MetricName, Metrics

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def names_and_units(reader: InMemoryMetricReader) -> dict[str, str]:
    found = reader.get_metrics_data()
    assert found is not None
    return {
        metric.name: metric.unit or ""
        for resource in found.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_every_name_is_in_the_catalogue_with_a_meaning() -> None:
    assert set(CATALOGUE) == set(get_args(MetricName))
    assert all(spec.meaning and spec.unit for spec in CATALOGUE.values())


def test_every_metric_reaches_the_sdk_under_its_name_and_unit() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    metrics = Metrics(provider.get_meter("test"))
    for name, spec in CATALOGUE.items():
        if spec.kind in ("counter", "up_down"):
            metrics.count(name, 1, topic="t")
        elif spec.kind == "histogram":
            metrics.record(name, 1.5, topic="t")
        else:
            metrics.level(name, 2, topic="t")
    assert names_and_units(reader) == {f"payment_engine.{name}": spec.unit for name, spec in CATALOGUE.items()}
    provider.shutdown()


def test_metric_refuses_a_call_when_it_is_of_another_kind() -> None:
    metrics = Metrics(MeterProvider().get_meter("test"))
    with pytest.raises(AssertionError, match="no histogram"):
        metrics.record("dead_letters", 1.0)


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
