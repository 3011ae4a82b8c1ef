"""What a page of metrics says, read by Prometheus' own parser: for tests of what is counted, here or in a process."""

from collections.abc import Callable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from streams.telemetry import exporter
from streams.telemetry.metrics import CATALOGUE, MetricName, exported_name

Samples = Mapping[str, list[tuple[Mapping[str, str], float]]]


def samples_of(page: str) -> Samples:
    """Return each sample's labels and value, by the sample's name."""
    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def sample_name(name: MetricName) -> str:
    """Return the sample that tells whether the metric moved: a counter's total, a histogram's count, a level."""
    exported = exported_name(name).replace(".", "_")
    return {
        "counter": f"{exported}_total",
        "histogram": f"{exported}_milliseconds_count",
        "up_down": exported,
        "gauge": f"{exported}_milliseconds" if CATALOGUE[name].unit == "ms" else exported,
    }[CATALOGUE[name].kind]


def value_in(page: str, name: MetricName, **labels: str) -> float:
    """Return the sum over the series that have these labels; 0 when there is none."""
    return sum(value for had, value in samples_of(page).get(sample_name(name), ()) if labels.items() <= had.items())


def observed_in(page: str, name: MetricName, **labels: str) -> float:
    """Return the sum of the values that a histogram was given, over the series that have these labels."""
    sums = samples_of(page).get(sample_name(name).removesuffix("_count") + "_sum", ())
    return sum(value for had, value in sums if labels.items() <= had.items())


def page() -> str:
    """Return this process's page. It keeps what it counts from the first such call on."""
    return exporter.page()[0].decode()


def value_of(name: MetricName, **labels: str) -> float:
    """Return the same of this process."""
    return value_in(page(), name, **labels)


def rise_of(name: MetricName, **labels: str) -> Callable[[], float]:
    """Return what tells by how much the metric has risen since now: a process counts for all of its tests."""
    before = value_of(name, **labels)
    return lambda: value_of(name, **labels) - before
