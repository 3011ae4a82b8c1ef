"""The official SDK with its Prometheus exporter: what reads `metrics` for `/metrics`. Nothing is read before `install`.

Called by `health`, late: who counts without being read, as the command line does, never loads the SDK. Counters and
gauges come by observable instruments. For histograms the API has none, and one call of the SDK's own costs as much as
ten of ours; they are put beside what the SDK collects. OpenTelemetry's specification calls that a MetricProducer
(metrics SDK, "MetricProducer"), a source of ready data beside the instruments; the Python SDK 1.45 has none.
`_receive_metrics` is the method that its documentation names for subclasses of a reader.
"""

import time
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from math import nan
from operator import itemgetter
from typing import Any, Final

from opentelemetry import metrics as otel
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from streams.telemetry.metrics import BOUNDS_MS, CATALOGUE, PROCESS, SCOPE, MetricName, Metrics, exported_name

_STARTED_NS: Final = time.time_ns()


def with_histograms(data: MetricsData, metrics: Metrics) -> MetricsData:
    """Return what the SDK has collected together with the histograms as they are now."""
    first, *others = data.resource_metrics
    ours = ScopeMetrics(scope=InstrumentationScope(SCOPE), metrics=list(_histograms(metrics)), schema_url="")
    joined = ResourceMetrics(
        resource=first.resource, scope_metrics=[*first.scope_metrics, ours], schema_url=first.schema_url
    )
    return MetricsData(resource_metrics=[joined, *others])


def _histograms(metrics: Metrics) -> Iterator[Metric]:
    now_ns = time.time_ns()
    for name, series in groupby(metrics.distributions(), key=itemgetter(0)):
        points = [
            HistogramDataPoint(
                attributes=labels,
                start_time_unix_nano=_STARTED_NS,
                time_unix_nano=now_ns,
                count=sum(distribution.bucket_counts),
                sum=distribution.total,
                bucket_counts=tuple(distribution.bucket_counts),
                explicit_bounds=BOUNDS_MS,
                min=nan,  # since the process began: of no use to anybody, so not kept
                max=nan,
            )
            for _, labels, distribution in series
        ]
        yield _metric(name, points)


def _metric(name: MetricName, points: list[HistogramDataPoint]) -> Metric:
    spec = CATALOGUE[name]
    return Metric(
        name=exported_name(name),
        description=spec.meaning,
        unit=spec.unit,
        data=Histogram(data_points=points, aggregation_temporality=AggregationTemporality.CUMULATIVE),
    )


class PageReader(PrometheusMetricReader):
    """The official exporter, showing the histograms as well."""

    def __init__(self, metrics: Metrics, registry: CollectorRegistry) -> None:
        super().__init__(disable_target_info=True, scope_info_enabled=False, registry=registry)
        self._own_metrics = metrics

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(with_histograms(metrics_data, self._own_metrics), timeout_millis, **kwargs)


@cache
def install() -> CollectorRegistry:
    """Have this process's metrics read; returns where the exporter puts them. Twice is once."""
    registry = CollectorRegistry()
    otel.set_meter_provider(MeterProvider([PageReader(PROCESS, registry)], shutdown_on_exit=False))
    return registry


def page() -> tuple[bytes, str]:
    """Return every metric in the Prometheus text format 0.0.4, and its content type. Costs some milliseconds.

    Of at most `metrics.MAX_SERIES` series a metric, so its length is bounded.
    """
    return generate_latest(install()), CONTENT_TYPE_PLAIN_0_0_4
