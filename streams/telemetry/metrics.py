"""The catalogue of metrics, and a thin wrapper over the OpenTelemetry API.

Called by the shells, as `metrics.count("dead_letters", reason=…)`. A name that is not in the catalogue does not
type-check, so that a dashboard never waits for a metric that is spelled differently. Without an SDK every call is a
no-op.

Attributes are low in number and never about one payment: no order, no key, no token (a metric is not a log).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from opentelemetry import metrics as otel
from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter
from opentelemetry.metrics import _Gauge as Gauge  # the API exports the class under this name only

SCOPE = "payment_engine"
"""Instrumentation scope, and the prefix of every metric's name."""

Kind = Literal["counter", "histogram", "up_down", "gauge"]

MetricName = Literal[
    "dead_letters",
    "inputs_handled",
    "input_lag_ms",
    "executor_calls",
    "executor_call_ms",
    "executor_calls_joined",
    "executor_answers_repeated",
    "executor_calls_beyond_memory",
    "executor_calls_past_key_window",
    "executor_unexpected_errors",
    "worker_records_in_flight",
    "worker_records_let_go",
    "worker_records_retried",
    "worker_records_abandoned",
    "worker_destination_busy",
    "worker_appends_retried",
    "worker_commits_failed",
    "worker_polls_failed",
    "worker_partitions",
    "log_appends",
    "log_appends_in_flight",
    "log_append_ms",
    "log_circuit_opened",
    "log_producer_renewed",
    "policies_known",
    "policies_invalid",
    "http_requests",
    "http_request_ms",
    "replies_waiting",
    "timers_open",
    "timers_fired",
    "row_regressions",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """What a metric is: how it adds up, in which unit, and what it tells an operator."""

    kind: Kind
    unit: str  # UCUM, as OpenTelemetry has it
    meaning: str


def _spec(kind: Kind, unit: str, meaning: str) -> MetricSpec:
    return MetricSpec(kind=kind, unit=unit, meaning=meaning)


CATALOGUE: Mapping[MetricName, MetricSpec] = MappingProxyType(
    {
        "dead_letters": _spec("counter", "{record}", "Records that could not be taken, by reason and component."),
        "inputs_handled": _spec("counter", "{record}", "Records that an agent has decided about, by topic."),
        "input_lag_ms": _spec("histogram", "ms", "From a record's append to its decision, by topic."),
        "executor_calls": _spec("counter", "{call}", "Gateway calls that ended, by gateway, kind and outcome."),
        "executor_call_ms": _spec("histogram", "ms", "How long a gateway call took, by gateway and kind."),
        "executor_calls_joined": _spec("counter", "{call}", "Duplicates that joined the call under way."),
        "executor_answers_repeated": _spec("counter", "{call}", "Duplicates given the answer that is on the log."),
        "executor_calls_beyond_memory": _spec(
            "counter", "{call}", "Calls asked for again, too old to know whether they were answered: inquired about."
        ),
        "executor_calls_past_key_window": _spec(
            "counter", "{call}", "Requests too old to be sent again; answered by an inquiry."
        ),
        "executor_unexpected_errors": _spec(
            "counter", "{error}", "ALARM: a gateway adapter raised. The result is UNKNOWN; the adapter has a defect."
        ),
        "worker_records_in_flight": _spec("gauge", "{record}", "Records taken and not yet done, by component."),
        "worker_records_let_go": _spec(
            "counter", "{record}", "Records not begun, since their partition was given away or the worker was frozen."
        ),
        "worker_records_retried": _spec(
            "counter", "{record}", "Records handed over again after a while, by component."
        ),
        "worker_records_abandoned": _spec("counter", "{record}", "Records that a bounded drain did not wait out."),
        "worker_destination_busy": _spec("counter", "{record}", "Records that found their destination busy."),
        "worker_appends_retried": _spec(
            "counter", "{record}", "Appends of a result or dead letter tried again, by component and topic."
        ),
        "worker_commits_failed": _spec("counter", "{commit}", "Offset commits refused, say after a rebalance."),
        "worker_polls_failed": _spec("counter", "{poll}", "Polls that failed and were tried again, by component."),
        "worker_partitions": _spec("gauge", "{partition}", "Partitions that this worker owns, by component."),
        "log_appends": _spec("counter", "{record}", "Records appended, by topic and result."),
        "log_appends_in_flight": _spec("up_down", "{record}", "Appends that the broker has not yet acknowledged."),
        "log_append_ms": _spec("histogram", "ms", "From append to acknowledgement, by topic."),
        "log_circuit_opened": _spec(
            "counter", "{event}", "Times the log was given up for a moment; appends fail fast."
        ),
        "log_producer_renewed": _spec("counter", "{event}", "Times a producer in a state of no return was replaced."),
        "policies_known": _spec("gauge", "{policy}", "Origins with a policy of their own, `*` included."),
        "policies_invalid": _spec(
            "counter", "{record}", "Policy records that could not be taken; the last good one stays."
        ),
        "http_requests": _spec("counter", "{request}", "HTTP requests answered, by route and status."),
        "http_request_ms": _spec("histogram", "ms", "How long an HTTP request took, by route."),
        "replies_waiting": _spec("up_down", "{request}", "Requests that wait for a reply from the log."),
        "timers_open": _spec("gauge", "{timer}", "Timers that orders of this worker wait for."),
        "timers_fired": _spec("counter", "{timer}", "Timers that became due, by kind."),
        "row_regressions": _spec("counter", "{row}", "ALARM: a changelog held an older row after a newer one."),
    }
)

_Instrument = Counter | Histogram | UpDownCounter | Gauge


class Metrics:
    """The catalogue's instruments on one meter, each made at its first use."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._made: dict[MetricName, _Instrument] = {}

    def count(self, name: MetricName, amount: int = 1, **attributes: str) -> None:
        """Add to a counter; of an up-down counter the amount may be negative."""
        instrument = self._instrument(name)
        assert isinstance(instrument, Counter | UpDownCounter), f"{name} is no counter"
        instrument.add(amount, attributes)

    def record(self, name: MetricName, value: float, **attributes: str) -> None:
        """Record one value, in the unit of the catalogue."""
        instrument = self._instrument(name)
        assert isinstance(instrument, Histogram), f"{name} is no histogram"
        instrument.record(value, attributes)

    def level(self, name: MetricName, value: float, **attributes: str) -> None:
        """Set a gauge, in the unit of the catalogue."""
        instrument = self._instrument(name)
        assert isinstance(instrument, Gauge), f"{name} is no gauge"
        instrument.set(value, attributes)

    def _instrument(self, name: MetricName) -> _Instrument:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._make(name, CATALOGUE[name])
        return made

    def _make(self, name: MetricName, spec: MetricSpec) -> _Instrument:
        match spec.kind:
            case "counter":
                return self._meter.create_counter(f"{SCOPE}.{name}", unit=spec.unit, description=spec.meaning)
            case "histogram":
                return self._meter.create_histogram(f"{SCOPE}.{name}", unit=spec.unit, description=spec.meaning)
            case "up_down":
                return self._meter.create_up_down_counter(f"{SCOPE}.{name}", unit=spec.unit, description=spec.meaning)
            case "gauge":
                return self._meter.create_gauge(f"{SCOPE}.{name}", unit=spec.unit, description=spec.meaning)


# A proxy: it passes to the SDK's meter as soon as a process sets one, before or after this import.
_process = Metrics(otel.get_meter(SCOPE))

count = _process.count
record = _process.record
level = _process.level
