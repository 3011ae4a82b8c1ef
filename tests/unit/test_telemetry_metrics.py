"""The catalogue, what is counted by it, and the page that Prometheus reads."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, MetricsData, NumberDataPoint
from prometheus_client import CollectorRegistry, generate_latest

from streams.telemetry import exporter
from streams.telemetry import metrics as process_metrics
from streams.telemetry.metrics import (
    CATALOGUE,
    MAX_SERIES,
    OVERFLOW_LABEL,
    MetricName,
    Metrics,
    exported_name,
)
from tests.support.metric_pages import rise_of, sample_name, samples_of, value_of

ROOT = Path(__file__).parents[2]
PACKAGES = ("gateway_adapters", "streams", "http_ingress")
CALLS = {"count": {"counter", "up_down"}, "level": {"gauge"}, "watch": {"gauge"}, "observe": {"histogram"}}
OWN_ARGUMENTS = {"amount", "value", "read"}
PRIVATE = ("order", "origin", "merchant", "payment", "key", "token", "request_id", "op_id", "customer", "account")

Points = dict[str, list[NumberDataPoint | HistogramDataPoint]]


class MemoryReader(InMemoryMetricReader):
    """The SDK's reader for tests, reading the histograms as the exporter does."""

    metrics: Metrics

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(exporter.with_histograms(metrics_data, self.metrics), timeout_millis, **kwargs)


@pytest.fixture
def reader() -> Iterator[MemoryReader]:
    made = MemoryReader()
    yield made
    made.shutdown()


@pytest.fixture
def counting(reader: MemoryReader) -> Metrics:
    made = reader.metrics = Metrics(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
    made.watch("references_awaited", lambda: 0)  # the SDK reads nothing where there is no instrument
    return made


def points(reader: MemoryReader) -> Points:
    found = reader.get_metrics_data()
    if found is None:
        return {}
    return {
        metric.name: list(metric.data.data_points)  # type: ignore[arg-type]  # no exponential histogram is made here
        for resource in found.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def labels_of(name: MetricName) -> dict[str, str]:
    return dict.fromkeys(CATALOGUE[name].labels, "some")


def move(metrics: Metrics, name: MetricName, **labels: str) -> None:
    match CATALOGUE[name].kind:
        case "counter" | "up_down":
            metrics.count(name, 2, **labels)
        case "histogram":
            metrics.observe(name, 1.5, **labels)
        case "gauge":
            metrics.level(name, 2, **labels)


def test_every_name_is_in_the_catalogue_with_a_meaning_and_a_unit() -> None:
    assert set(CATALOGUE) == set(get_args(MetricName))
    assert all(spec.meaning.endswith(".") or "ALARM" in spec.meaning for spec in CATALOGUE.values())
    assert all(spec.unit and (spec.unit == "ms") == name.endswith("_ms") for name, spec in CATALOGUE.items())
    assert len({exported_name(name) for name in CATALOGUE}) == len(CATALOGUE)


def test_no_label_is_about_one_payment_or_merchant() -> None:
    labels = {label for spec in CATALOGUE.values() for label in spec.labels}
    assert [label for label in labels if any(word in label for word in PRIVATE)] == []


def test_every_metric_reaches_the_sdk_under_its_name_unit_and_labels(counting: Metrics, reader: MemoryReader) -> None:
    for name in CATALOGUE:
        move(counting, name, **labels_of(name))
    found = points(reader)
    assert set(found) == {exported_name(name) for name in CATALOGUE}
    for name in CATALOGUE:
        (point,) = found[exported_name(name)]
        assert dict(point.attributes or {}) == labels_of(name)


def test_count_adds_up_whatever_the_order_of_its_labels(counting: Metrics, reader: MemoryReader) -> None:
    counting.count("log_appends", topic="t", result="appended")
    counting.count("log_appends", result="appended", topic="t")
    counting.count("log_appends", 3, topic="t", result="appended")
    (point,) = points(reader)["payment_engine.log_appends"]
    assert isinstance(point, NumberDataPoint)
    assert point.value == 5


def test_up_down_counter_goes_down_again(counting: Metrics, reader: MemoryReader) -> None:
    for change in (1, 1, -1):
        counting.count("log_appends_in_flight", change)
    (point,) = points(reader)["payment_engine.log_appends_in_flight"]
    assert isinstance(point, NumberDataPoint)
    assert point.value == 1


def test_watched_gauge_is_looked_up_when_it_is_read_by_whoever_said_so_last(
    counting: Metrics, reader: MemoryReader
) -> None:
    waiting: list[int] = []
    counting.watch("replies_waiting", lambda: 99)
    counting.watch("replies_waiting", lambda: len(waiting))
    waiting.append(1)
    (point,) = points(reader)["payment_engine.replies_waiting"]
    assert isinstance(point, NumberDataPoint)
    assert point.value == 1


def test_histogram_counts_a_negative_time_as_none(counting: Metrics, reader: MemoryReader) -> None:
    counting.observe("input_lag_ms", -3.0, topic="t")
    counting.observe("input_lag_ms", 15.0, topic="t")
    (point,) = points(reader)["payment_engine.input_lag"]
    assert isinstance(point, HistogramDataPoint)
    assert (point.count, point.sum, point.bucket_counts[0], point.bucket_counts[2]) == (2, 15.0, 1, 1)


def test_metric_refuses_a_call_of_another_kind_or_with_other_labels(counting: Metrics) -> None:
    with pytest.raises(AssertionError, match="no histogram"):
        counting.observe("dead_letters", 1.0, reason="r", component="c")
    with pytest.raises(AssertionError, match="no counter"):
        counting.count("references_awaited")
    with pytest.raises(AssertionError, match="no gauge"):
        counting.watch("dead_letters", lambda: 1)
    with pytest.raises(AssertionError, match="is split by"):
        counting.count("log_appends", topic="t")
    with pytest.raises(AssertionError, match="is split by"):
        counting.count("log_circuit_opened", topic="t")


def test_series_of_a_metric_are_bounded_and_nothing_is_lost_past_the_bound(
    counting: Metrics, reader: MemoryReader
) -> None:
    for _ in range(2):
        for number in range(MAX_SERIES + 10):
            counting.count("timers_fired", kind=str(number))
            counting.observe("log_append_ms", 1.0, topic=str(number))
    found = points(reader)
    numbers = [point for point in found["payment_engine.timers_fired"] if isinstance(point, NumberDataPoint)]
    assert len(numbers) == MAX_SERIES + 1
    assert sum(point.value for point in numbers) == 2 * (MAX_SERIES + 10)
    assert [point.value for point in numbers if (point.attributes or {}).get(OVERFLOW_LABEL)] == [20]
    times = [point for point in found["payment_engine.log_append"] if isinstance(point, HistogramDataPoint)]
    assert (len(times), sum(point.count for point in times)) == (MAX_SERIES + 1, 2 * (MAX_SERIES + 10))
    assert len(counting._known_numbers) == len(counting._known_distributions) == MAX_SERIES


def test_page_is_prometheus_text_with_what_this_process_counts() -> None:
    fired, timed = rise_of("timers_fired", kind="page_test"), rise_of("log_append_ms", topic="page_test")
    process_metrics.count("timers_fired", 2, kind="page_test")
    process_metrics.observe("log_append_ms", 7.0, topic="page_test")
    process_metrics.level("worker_partitions", 3, component="page_test")
    page, content_type = exporter.page()
    assert (fired(), timed(), value_of("worker_partitions", component="page_test")) == (2, 1, 3)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# TYPE payment_engine_timers_fired_total counter" in page
    assert b"# HELP payment_engine_worker_partitions " in page
    buckets = samples_of(page.decode())["payment_engine_log_append_milliseconds_bucket"]
    ours = {had["le"]: value for had, value in buckets if had["topic"] == "page_test"}
    assert (ours["5.0"], ours["10.0"], ours["+Inf"]) == (0, 1, 1)


def test_exporter_is_installed_once() -> None:
    assert exporter.install() is exporter.install()


def calls_of_metrics() -> Iterator[tuple[str, str, set[str], str]]:
    """Yield the method, the metric, the labels and the place of each call in our own code."""
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) == "metrics"
                and node.func.attr in CALLS
            ):
                name = node.args[0]
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: the name is not written out"
                labels = {str(keyword.arg) for keyword in node.keywords} - OWN_ARGUMENTS
                yield node.func.attr, str(name.value), labels, f"{path.relative_to(ROOT)}:{node.lineno}"


def test_every_call_gives_the_labels_of_its_entry_and_every_entry_has_a_call() -> None:
    """A label that is missing would be refused where it is counted first: in the middle of a rare failure."""
    calls = list(calls_of_metrics())
    for method, name, labels, place in calls:
        assert name in CATALOGUE, place
        spec = CATALOGUE[name]  # type: ignore[index]  # it is one of the names, as was just seen
        assert (spec.kind in CALLS[method], labels) == (True, set(spec.labels)), place
    assert {name for _, name, _, _ in calls} == set(CATALOGUE)


def test_sample_name_is_the_one_on_the_page() -> None:
    registry = CollectorRegistry()
    provider = MeterProvider(shutdown_on_exit=False)
    metrics = Metrics(provider.get_meter("test"))
    provider.add_metric_reader(exporter.PageReader(metrics, registry))
    for name in CATALOGUE:
        move(metrics, name, **labels_of(name))
    shown = samples_of(generate_latest(registry).decode())
    assert [name for name in CATALOGUE if sample_name(name) not in shown] == []
