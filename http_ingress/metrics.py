"""What the ingress counts, and its page in the Prometheus text format.

Format: Prometheus exposition format 0.0.4. Counters and histograms only, with few labels that have few values each, so
that the page stays small; every name stands in `IngressMetrics`. The OpenTelemetry API has no reading side without its
SDK, which is an optional extra here, so these few numbers are kept in place.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from streams.telemetry import metrics as telemetry

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_MS_PER_S = 1000
MAX_SERIES = 500
"""Label sets kept a metric. Labels come from closed sets; the limit guards against a defect."""

_LATENCY_BUCKETS_S: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 30.72)


class Counter:
    """A number that only rises, by label values."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._values: dict[tuple[str, ...], int] = {}

    def inc(self, *values: str) -> None:
        """Add one. The values stand in the order of the labels."""
        if values in self._values or len(self._values) < MAX_SERIES:
            self._values[values] = self._values.get(values, 0) + 1

    def value(self, *values: str) -> int:
        """Return the count of these label values."""
        return self._values.get(values, 0)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the page."""
        yield from _heading(self._name, self._help, "counter")
        for values, count in sorted(self._values.items()):
            yield f"{self._name}{_braces(self._labels, values)} {count}"


class Histogram:
    """Durations in seconds, by label values."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, duration_s: float, *values: str) -> None:
        """Count one duration. The values stand in the order of the labels."""
        series = self._series.get(values)
        if series is None:
            if len(self._series) >= MAX_SERIES:
                return
            series = self._series[values] = ([0] * (len(_LATENCY_BUCKETS_S) + 1), [0.0])
        series[0][bisect_left(_LATENCY_BUCKETS_S, duration_s)] += 1
        series[1][0] += duration_s

    def lines(self) -> Iterator[str]:
        """Yield the lines of the page: buckets are cumulative, the last one is +Inf."""
        yield from _heading(self._name, self._help, "histogram")
        bounds = (*(str(bound) for bound in _LATENCY_BUCKETS_S), "+Inf")
        for values, (counts, total) in sorted(self._series.items()):
            below = 0
            for bound, count in zip(bounds, counts, strict=True):
                below += count
                yield f"{self._name}_bucket{_braces((*self._labels, 'le'), (*values, bound))} {below}"
            yield f"{self._name}_sum{_braces(self._labels, values)} {total[0]:.6f}"
            yield f"{self._name}_count{_braces(self._labels, values)} {below}"


class Gauge:
    """A number that is looked up when the page is read."""

    def __init__(self, name: str, help_text: str, read: Callable[[], int]) -> None:
        self._name = name
        self._help = help_text
        self._read = read

    def lines(self) -> Iterator[str]:
        """Yield the lines of the page."""
        yield from _heading(self._name, self._help, "gauge")
        yield f"{self._name} {self._read()}"


class IngressMetrics:
    """Every metric of the ingress."""

    def __init__(self) -> None:
        self.requests = Counter("payment_ingress_requests_total", "Answered requests.", ("route", "method", "status"))
        self.durations = Histogram(
            "payment_ingress_request_duration_seconds", "From the request's headers to its answer.", ("route",)
        )
        self.problems = Counter("payment_ingress_problems_total", "Answers that were problems.", ("code",))
        self.replies = Counter("payment_ingress_replies_total", "Replies read from the log.", ("result",))
        self.gauges: list[Gauge] = []

    def answered(self, *, route: str, method: str, status: int, duration_s: float, problem: str | None) -> None:
        """Count one answered request, here and for OpenTelemetry. Labels come from closed sets."""
        self.requests.inc(route, method, str(status))
        self.durations.observe(duration_s, route)
        if problem is not None:
            self.problems.inc(problem)
        telemetry.count("http_requests", route=route, status=str(status))
        telemetry.record("http_request_ms", duration_s * _MS_PER_S, route=route)

    def page(self) -> str:
        """Return the page."""
        metrics: tuple[Counter | Histogram | Gauge, ...] = (
            self.requests,
            self.durations,
            self.problems,
            self.replies,
            *self.gauges,
        )
        return "\n".join(line for metric in metrics for line in metric.lines()) + "\n"


def _heading(name: str, help_text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _braces(labels: Sequence[str], values: Sequence[str]) -> str:
    pairs = (f'{label}="{_escaped(value)}"' for label, value in zip(labels, values, strict=True))
    joined = ",".join(pairs)
    return f"{{{joined}}}" if joined else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
