"""The catalogue of metrics, and the one way in which they are counted and read.

Called by the shells, as `metrics.count("timers_fired", kind=…)`. A name that is not in the catalogue does not
type-check, and a label that its entry does not name is refused, so that a dashboard never waits for a metric that is
spelled differently. Instruments are the OpenTelemetry API's: any SDK can read them. `exporter` sets the official
one with its Prometheus exporter, behind `/metrics`.

All is plain numbers here until somebody reads. Counters and gauges are handed over by observable instruments, and
histograms join the SDK's data in `exporter`, as OpenTelemetry has no observable one. A payment makes two dozen calls.
Measured among other work, with cold caches, one of them takes 2 µs; the SDK's own `add` and `record` take 20.

Labels have few values each and are never about one payment: no merchant, no order, no key, no token (a metric is not a
log). `MAX_SERIES` bounds what a defect could do.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final, Literal

from opentelemetry import metrics as otel
from opentelemetry.metrics import CallbackOptions, Meter, Observation

SCOPE: Final = "payment_engine"
"""The meter's name, and the prefix of every metric's name."""

MAX_SERIES: Final = 200
"""Label sets kept of a metric; further ones are added up in one series, labelled as OpenTelemetry has it."""

OVERFLOW_LABEL: Final = "otel.metric.overflow"
"""OpenTelemetry's metrics SDK specification, cardinality limits: the attribute of what is past the limit."""

_UNIT_SUFFIX: Final = "_ms"
BOUNDS_MS: Final = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 2560.0, 5120.0, 10_240.0, 30_720.0)
"""Of every histogram: from an append within a cluster to past the longest wait for a gateway."""

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
    "executor_calls_without_command",
    "executor_unexpected_errors",
    "executor_alarms",
    "declines_unknown",
    "executor_slots_taken",
    "executor_calls_waiting",
    "executor_calls_turned_away",
    "executor_calls_throttled",
    "executor_breaker_open",
    "executor_breaker_opened",
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
    "open_transaction_wait_ms",
    "replies_lost",
    "policies_known",
    "account_secrets_changed",
    "account_secrets_refused",
    "policies_invalid",
    "routes_shadowed",
    "http_requests",
    "http_request_ms",
    "http_problems",
    "webhooks_ignored",
    "references_awaited",
    "references_contested",
    "replies_read",
    "replies_waiting",
    "key_file_faulty",
    "table_rows",
    "rows_due",
    "timers_fired",
    "row_regressions",
    "retention_used",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """What a metric is: how it adds up, in which unit, what it tells an operator, and by what it is split."""

    kind: Kind
    unit: str  # UCUM, as OpenTelemetry has it
    meaning: str
    labels: tuple[str, ...]  # each call gives them all


def _spec(kind: Kind, unit: str, meaning: str, *labels: str) -> MetricSpec:
    return MetricSpec(kind=kind, unit=unit, meaning=meaning, labels=labels)


CATALOGUE: Mapping[MetricName, MetricSpec] = MappingProxyType(
    {
        "dead_letters": _spec("counter", "{record}", "Records that could not be taken.", "reason", "component"),
        "inputs_handled": _spec("counter", "{record}", "Records that an agent has decided about.", "topic"),
        "input_lag_ms": _spec("histogram", "ms", "From a record's append to its decision.", "topic"),
        "executor_calls": _spec("counter", "{call}", "Gateway calls that ended.", "gateway", "kind", "outcome"),
        "executor_call_ms": _spec("histogram", "ms", "How long a gateway call took.", "gateway", "kind"),
        "executor_calls_joined": _spec(
            "counter", "{call}", "Duplicates that joined the call under way.", "gateway", "kind"
        ),
        "executor_answers_repeated": _spec(
            "counter", "{call}", "Duplicates given the answer that is on the log.", "gateway", "kind"
        ),
        "executor_calls_beyond_memory": _spec(
            "counter",
            "{call}",
            "Calls asked for again, too old to know whether they were answered: inquired about.",
            "gateway",
            "kind",
        ),
        "executor_calls_past_key_window": _spec(
            "counter", "{call}", "Requests too old to be sent again; answered by an inquiry.", "gateway", "kind"
        ),
        "executor_calls_without_command": _spec(
            "counter",
            "{call}",
            "ALARM: calls that could not be made, since the log no longer holds the command with their token.",
            "gateway",
            "kind",
        ),
        "executor_unexpected_errors": _spec(
            "counter",
            "{error}",
            "ALARM: a gateway adapter raised. The result is UNKNOWN; the adapter has a defect.",
            "gateway",
            "kind",
        ),
        "executor_alarms": _spec(
            "counter",
            "{call}",
            "ALARM: calls that failed by our own fault, or by a promise that the gateway broke: see the code.",
            "route",
            "code",
        ),
        "declines_unknown": _spec(
            "counter",
            "{decline}",
            "Declines, in answers and webhooks, by a code that this version does not know of the gateway.",
            "gateway",
        ),
        "executor_slots_taken": _spec(
            "gauge", "{call}", "Slots of a gateway account that calls under way hold.", "route"
        ),
        "executor_calls_waiting": _spec(
            "gauge", "{call}", "Calls that wait for a slot of their gateway account.", "route"
        ),
        "executor_calls_turned_away": _spec(
            "counter",
            "{call}",
            "Calls not made, since the gateway's circuit is open or no slot came free in time.",
            "route",
            "reason",
        ),
        "executor_calls_throttled": _spec(
            "counter",
            "{pause}",
            "Pauses in which calls waited, since the account's rate was used up or its gateway had asked for fewer.",
            "route",
        ),
        "executor_breaker_open": _spec(
            "gauge",
            "{circuit}",
            "ALARM when 1: the gateway account fails, and is not asked but for probes.",
            "route",
        ),
        "executor_breaker_opened": _spec(
            "counter", "{circuit}", "How often a gateway account's circuit has opened.", "route"
        ),
        "worker_records_in_flight": _spec("gauge", "{record}", "Records taken and not yet done.", "component"),
        "worker_records_let_go": _spec(
            "counter",
            "{record}",
            "Records not begun, since their partition was given away or the worker was frozen.",
            "component",
        ),
        "worker_records_retried": _spec(
            "counter", "{record}", "Records that are handed over again after a while.", "component"
        ),
        "worker_records_abandoned": _spec(
            "counter", "{record}", "Records that a bounded drain did not wait out.", "component"
        ),
        "worker_destination_busy": _spec(
            "counter", "{record}", "Records that found their destination busy: nothing is taken in.", "component"
        ),
        "worker_appends_retried": _spec(
            "counter", "{record}", "Appends of a result or dead letter tried again.", "component", "topic"
        ),
        "worker_commits_failed": _spec(
            "counter", "{commit}", "Offset commits refused, say after a rebalance.", "component", "error"
        ),
        "worker_polls_failed": _spec(
            "counter", "{poll}", "Polls that failed and are tried again.", "component", "error"
        ),
        "worker_partitions": _spec("gauge", "{partition}", "Partitions that this worker owns.", "component"),
        "log_appends": _spec("counter", "{record}", "Records appended, and those that were not.", "topic", "result"),
        "log_appends_in_flight": _spec("up_down", "{record}", "Appends that the broker has not yet acknowledged."),
        "log_append_ms": _spec("histogram", "ms", "From append to acknowledgement.", "topic"),
        "log_circuit_opened": _spec(
            "counter", "{event}", "Times the log was given up for a moment; appends fail fast."
        ),
        "log_producer_renewed": _spec("counter", "{event}", "Times a producer in a state of no return was replaced."),
        "open_transaction_wait_ms": _spec(
            "gauge", "ms", "How long a partition has waited for somebody's transaction to end.", "topic", "partition"
        ),
        "replies_lost": _spec(
            "counter", "{reply}", "Replies that no broker took in time: their waiters get a 202.", "reason"
        ),
        "policies_known": _spec("gauge", "{policy}", "Origins with a policy of their own, `*` included."),
        "account_secrets_changed": _spec(
            "counter", "{account}", "Accounts whose secrets have changed in their files, and are in force.", "route"
        ),
        "account_secrets_refused": _spec(
            "counter", "{change}", "ALARM: accounts' secrets that could not be read again; the last good ones hold."
        ),
        "policies_invalid": _spec(
            "counter", "{record}", "Policy records that could not be taken; the last good one stays."
        ),
        "routes_shadowed": _spec(
            "counter",
            "{payment}",
            "Payments during a dry run of routing rules: the route taken first, and the one that the rules would take.",
            "route",
            "would",
        ),
        "http_requests": _spec("counter", "{request}", "HTTP requests answered.", "route", "method", "status"),
        "http_request_ms": _spec("histogram", "ms", "From a request's headers to its answer.", "route"),
        "http_problems": _spec("counter", "{answer}", "Answers that were problems.", "code"),
        "webhooks_ignored": _spec(
            "counter",
            "{notice}",
            "Items of gateways' webhooks that are about nothing of ours (about_nobody), or an order nobody has here.",
            "gateway",
            "reason",
        ),
        "references_awaited": _spec(
            "gauge", "{reference}", "References of gateways that webhooks here wait for: no order is known by them yet."
        ),
        "references_contested": _spec(
            "counter",
            "{reference}",
            "ALARM: two orders say they are known by one reference. The first keeps it, and hears the other's notices.",
            "gateway",
        ),
        "replies_read": _spec("counter", "{record}", "Replies read from the log.", "result"),
        "replies_waiting": _spec("gauge", "{request}", "Requests that wait for a reply from the log."),
        "key_file_faulty": _spec("gauge", "{file}", "1 while the last good API keys hold."),
        "table_rows": _spec(
            "gauge", "{row}", "Rows of a table that are here, standbys included; of `timers`, those open.", "table"
        ),
        "rows_due": _spec(
            "counter", "{row}", "Rows that were asked to go, or to move, since their time had come.", "table"
        ),
        "timers_fired": _spec("counter", "{timer}", "Timers that became due and are on the log.", "kind"),
        "retention_used": _spec(
            "gauge",
            "1",
            "Age of the oldest unread record, as a share of its topic's retention; at 1 it is deleted unread.",
            "topic",
        ),
        "row_regressions": _spec(
            "counter", "{row}", "ALARM: a changelog held an older row after a newer one.", "table"
        ),
    }
)


def exported_name(name: MetricName) -> str:
    """Return the name of the instrument. Its unit stands beside it there, as OpenTelemetry has it, and not within."""
    return f"{SCOPE}.{name.removesuffix(_UNIT_SUFFIX)}"


class _Number:
    """The value of one series."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Distribution:
    """What a series of a histogram was given: how many values up to each of `BOUNDS_MS` and past it, and their sum."""

    __slots__ = ("bucket_counts", "total")

    def __init__(self) -> None:
        self.bucket_counts = [0] * (len(BOUNDS_MS) + 1)
        self.total = 0.0


_Series = tuple[str, ...] | None
"""The values of a metric's labels, in the order of its entry; None: past the limit."""

_Given = tuple[object, ...]
"""A metric's name, and the names and values of its labels in the order of a call."""


class Metrics:
    """The catalogue's instruments on one meter, each made at its first use. All callers share one event loop."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._numbers: dict[MetricName, dict[_Series, _Number]] = {}
        self._reads: dict[MetricName, dict[_Series, Callable[[], float]]] = {}
        self._distributions: dict[MetricName, dict[_Series, Distribution]] = {}
        self._observable: set[MetricName] = set()
        # By what a call gives, as it gives it: one that was made before costs one look-up.
        self._known_numbers: dict[_Given, _Number] = {}
        self._known_distributions: dict[_Given, Distribution] = {}

    def count(self, name: MetricName, amount: int = 1, **labels: str) -> None:
        """Add to a counter; of an up-down counter the amount may be negative."""
        given = (name, *labels.items())
        number = self._known_numbers.get(given)
        if number is None:
            number = self._number(given, name, labels, ("counter", "up_down"))
        number.value += amount

    def level(self, name: MetricName, value: float, **labels: str) -> None:
        """Set a gauge, in the unit of the catalogue."""
        given = (name, *labels.items())
        number = self._known_numbers.get(given)
        if number is None:
            number = self._number(given, name, labels, ("gauge",))
        number.value = value

    def watch(self, name: MetricName, read: Callable[[], float], **labels: str) -> None:
        """Have a gauge looked up whenever somebody reads it. `read` is quick; given again, the later one holds."""
        _refuse_other_kind(name, ("gauge",))
        reads = self._reads.setdefault(name, {})
        reads[_series(name, labels, reads)] = read
        self._make_observable(name)

    def observe(self, name: MetricName, value: float, **labels: str) -> None:
        """Add one value to a histogram, in the unit of the catalogue; below 0 it counts as 0, as two clocks differ."""
        given = (name, *labels.items())
        distribution = self._known_distributions.get(given)
        if distribution is None:
            distribution = self._distribution(given, name, labels)
        distribution.bucket_counts[bisect_left(BOUNDS_MS, value)] += 1
        distribution.total += max(value, 0.0)

    def distributions(self) -> Iterator[tuple[MetricName, Mapping[str, str | bool], Distribution]]:
        """Yield each series of each histogram: its metric, its labels, and what it was given."""
        for name, series in list(self._distributions.items()):  # copied: whoever reads may be another thread
            for values, distribution in list(series.items()):
                yield name, _attributes(name, values), distribution

    def _number(self, given: _Given, name: MetricName, labels: Mapping[str, str], kinds: tuple[Kind, ...]) -> _Number:
        _refuse_other_kind(name, kinds)
        numbers = self._numbers.setdefault(name, {})
        series = _series(name, labels, numbers)
        number = numbers.setdefault(series, _Number())
        if series is not None:
            self._known_numbers[given] = number
        self._make_observable(name)
        return number

    def _distribution(self, given: _Given, name: MetricName, labels: Mapping[str, str]) -> Distribution:
        _refuse_other_kind(name, ("histogram",))
        distributions = self._distributions.setdefault(name, {})
        series = _series(name, labels, distributions)
        distribution = distributions.setdefault(series, Distribution())
        if series is not None:
            self._known_distributions[given] = distribution
        return distribution

    def _make_observable(self, name: MetricName) -> None:
        """Let whoever reads have the metric's numbers. Once for each metric is enough."""
        if name in self._observable:
            return
        self._observable.add(name)
        spec = CATALOGUE[name]
        make = {
            "counter": self._meter.create_observable_counter,
            "up_down": self._meter.create_observable_up_down_counter,
            "gauge": self._meter.create_observable_gauge,
        }[spec.kind]
        make(exported_name(name), [partial(self._read, name)], unit=spec.unit, description=spec.meaning)

    def _read(self, name: MetricName, _: CallbackOptions) -> Iterable[Observation]:
        # Copied first: whoever reads may be another thread.
        numbers = list(self._numbers.get(name, {}).items())
        reads = list(self._reads.get(name, {}).items())
        found = [(series, number.value) for series, number in numbers] + [(series, read()) for series, read in reads]
        return [Observation(value, _attributes(name, series)) for series, value in found]


def _refuse_other_kind(name: MetricName, kinds: tuple[Kind, ...]) -> None:
    assert CATALOGUE[name].kind in kinds, f"{name} is no {kinds[0]}"


def _series(name: MetricName, labels: Mapping[str, str], kept: Collection[_Series]) -> _Series:
    wanted = CATALOGUE[name].labels
    assert labels.keys() == set(wanted), f"{name} is split by {wanted}, not by {tuple(labels)}"
    series = tuple(labels[label] for label in wanted)
    return series if series in kept or len(kept) < MAX_SERIES else None


def _attributes(name: MetricName, series: _Series) -> dict[str, str | bool]:
    return {OVERFLOW_LABEL: True} if series is None else dict(zip(CATALOGUE[name].labels, series, strict=True))


PROCESS: Final = Metrics(otel.get_meter(SCOPE))
"""What this process counts. The meter is a proxy: it passes to the SDK's as soon as `exporter` sets one."""

count = PROCESS.count
level = PROCESS.level
observe = PROCESS.observe
watch = PROCESS.watch
