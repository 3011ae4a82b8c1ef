"""The named limits and tables of times of the state machines, and what a deployment may set of them.

Read by the other modules of this package; `Rules` is built in `streams/bootstrap.py` from the settings and from the
gateways' capabilities. Times are milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from gateway_adapters.contract import Capabilities
from schemas.identifiers import GatewayName, GatewayRoute
from schemas.vocabulary import CallKind

RULES_VERSION: Final = 2
"""Of what the state machines decide. It rises with each change by which the same inputs come to another row. Each row
says which rules decided it last, for whoever looks at it later; no worker refuses one for that alone."""

_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60 * _SECOND_MS
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS

MAX_OPERATIONS: Final = 500
"""In the whole life of an order. A limit on the log and not on the queue, so that every owner of the order meets it at
the same command; it also bounds the row."""

KEPT_OPERATIONS: Final = 8
"""Of an order, the newest, which stay in its row whatever they are: they are asked for most, and the least often loaded
so. An order of fewer than this and `LEAVING_OPERATIONS` together is never touched."""

LEAVING_OPERATIONS: Final = 8
"""So many at once leave an order's row for rows of their own: two records on the log for each such batch."""

MAX_LEAVING: Final = 64
"""At most so many at once: the others follow with the next batch."""

MAX_KEPT_CHARS: Final = 314_000
"""Of what an order's operations keep for good: some 60 % of the 512 KiB that a row may have
(`streams.kafka.worker_settings.MAX_ROW_BYTES`). The rest is for who waits, and for operations that have more to tell
than `EVENTS_EXPECTED`. An order reaches it before `MAX_OPERATIONS` only with ids much longer than UUIDs."""

OPERATION_CHARS: Final = 150
"""Of an operation, counted without what its command names: hashes, the gateway's reference, numbers."""

PLAN_CHARS: Final = 400
"""Of a payment's route plan, which it has from its command on: ten attempts at accounts with long names."""

EVENT_CHARS: Final = 75
"""Of a fact, counted without the words of an error and without the payer's page."""

DECISION_CHARS: Final = 40
"""Of a person's decision in a fact, counted without its words."""

EVENTS_EXPECTED: Final = 2
"""Facts of an operation that are counted before they happen: it is accepted, and it ends."""

MAX_WORDS: Final = 32
"""Words about an operation that was carried out; beyond it the oldest half is folded into one."""

MAX_CASE_CHARS: Final = 64
"""Of a gateway's name for a reversal or a dispute; a longer one is kept as its hash."""

WORD_CHARS: Final = 20
"""Of a word, counted without its case."""

MAX_UNCLAIMED: Final = 8
"""Successes of a payment of which nobody can tell yet whose they are; one more asks for a person."""

MAX_WAITERS: Final = 16
"""Requests that wait for one operation; one more is answered at once with how things stand."""

MAX_ROW_WAITERS: Final = 512
"""Requests that an order remembers, of all its operations; one more that joins is answered at once as well."""

WAITERS_KEPT_MS: Final = 10 * _MINUTE_MS
"""How long a settled operation remembers who waited for it. A replay answers them again, but nobody waits that long; a
row of many operations would otherwise outgrow what a changelog record holds."""

MAX_EVENTS: Final = 16
"""Of one operation. A gateway that goes back and forth between pending and action required would fill the row."""

MAX_DECISIONS: Final = 24
"""Of a person, about an order in its whole life, refused ones included. Each keeps its reason in the row."""

MAX_ATTEMPTS: Final = 10
"""Of one operation, whatever a plan says."""

FOLLOW_UP_ATTEMPTS: Final = 3
"""Of a capture, void or refund whose plan names no gateway: it goes to its payment's own anyway."""

RETRY_BACKOFF_MS: Final = (500, 2 * _SECOND_MS, 10 * _SECOND_MS, 30 * _SECOND_MS, _MINUTE_MS)
"""Before attempt 2, 3, … at the same gateway; the last one repeats."""

MAX_RETRY_DELAY_MS: Final = 15 * _MINUTE_MS
"""A gateway that wants a longer pause ends the operation: the order's queue stands still meanwhile."""

RECONCILE_AFTER_MS: Final = (
    5 * _SECOND_MS,
    30 * _SECOND_MS,
    2 * _MINUTE_MS,
    10 * _MINUTE_MS,
    10 * _MINUTE_MS,
    _HOUR_MS,
    6 * _HOUR_MS,
    _DAY_MS,
    _DAY_MS,
    _DAY_MS,
    _DAY_MS,
    _DAY_MS,
    _DAY_MS,
)
"""Pauses between looks at an operation in doubt or pending: eight growing ones, then daily five
times, then a person decides. The second ten minutes: the first look at which no copy of the call can be on its way any
more (`LATE_CALL_MS`), so that absence and refusal prove something."""

RECONCILE_AT_MS: Final = tuple(accumulate(RECONCILE_AFTER_MS))
"""The same looks, counted from the beginning."""

PENDING_LIFE_MS: Final = 30 * _DAY_MS
"""How long a gateway may take for its last word on what it has taken, unless it says so itself: bank debits take days.
Then a person is asked. It is looked at by the same schedule, and daily after its end."""

ACTION_LIFE_MS: Final = _HOUR_MS
"""How long a payer may take to act, unless the origin's policy says so. Gateways keep such a page for hours."""

MIN_ASKED_PAUSE_MS: Final = _SECOND_MS
"""Shortest pause before a look that a gateway asks for (`Retry-After`): the least that the header can say."""

ASKED_LOOKS_A_PAUSE: Final = 60
"""Looks that a gateway may ask for within one pause of the schedule. It may ask for each second, for ever."""

MAX_ASKED_PAUSE_MS: Final = 15 * _MINUTE_MS
"""A gateway that asks for a longer pause than the schedule's is left alone so long, and no longer."""

ORDER_LIFE_MS: Final = 180 * _DAY_MS
"""How long a settled order stays in the table."""

PAID_LIFE_MS: Final = 540 * _DAY_MS
"""How long an order stays that has money: so long after a payment, at most, card schemes let a payer's bank dispute it
(Visa's and Mastercard's rules for goods that come later)."""

CLAIM_LIFE_MS: Final = 30 * _DAY_MS
"""How long an idempotency key stands for its operation."""

LATE_CALL_MS: Final = 20 * _MINUTE_MS
"""So long after a call was answered, or given up, a copy of it that the network held may still reach its gateway; until
then it proves nothing that the gateway knows nothing of it. Linux sends unacknowledged data again for 924 s at least
before it gives a connection up (`tcp_retries2`, ip-sysctl.rst); the rest is margin."""

DRIVE_AGAIN_MS: Final = 10 * _MINUTE_MS
"""So long after a claim or a call was said it is said again if nobody has answered: many times what a slow gateway
takes, and short enough that an executor remembers what it has answered since."""

KEY_WINDOW_MARGIN_MS: Final = _MINUTE_MS
"""A gateway's key window counts as closed this much early: clocks differ, and a call takes time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a deployment sets.

    Attributes:
        order_life_ms: after this long without a change a settled order may leave the table.
        paid_life_ms: the same of an order that has money, when that is longer.
        claim_life_ms: after this long a claim may be forgotten.
        key_windows_ms: how long each gateway honours an idempotency key, by kind of call
            (`Capabilities.key_window_ms`); None: for ever. A gateway or kind that is absent does not honour keys: in
            doubt, only inquiries are made.
        late_call_ms: how long after its end a call may still reach its gateway.
        drive_again_ms: how long a claim or a call may wait for its answer before it is said again.
        capabilities: of each account that is set up. What is absent is taken to be able to do anything.
        kept_operations: how many of an order, the newest, stay in its row in any case.
        leaving_operations: how many must be able to leave it before any does.
    """

    order_life_ms: int
    claim_life_ms: int
    key_windows_ms: Mapping[GatewayName, Mapping[CallKind, int | None]]
    late_call_ms: int = LATE_CALL_MS
    drive_again_ms: int = DRIVE_AGAIN_MS
    paid_life_ms: int = PAID_LIFE_MS
    capabilities: Mapping[GatewayRoute, Capabilities] = field(default_factory=dict)
    kept_operations: int = KEPT_OPERATIONS
    leaving_operations: int = LEAVING_OPERATIONS

    def pending_life_of(self, route: GatewayRoute, kind: CallKind) -> int:
        """Return how long, milliseconds from the first sending, this account may take for its last word."""
        able = self.capabilities.get(route)
        return PENDING_LIFE_MS if able is None else able.pending_life_ms.get(kind, PENDING_LIFE_MS)

    def window_open(self, gateway: GatewayName, kind: CallKind, *, age_ms: int) -> bool:
        """Return whether a call of this age may be sent again with its key without having its effect twice."""
        windows_ms = self.key_windows_ms.get(gateway, {})
        if kind not in windows_ms:
            return False
        window_ms = windows_ms[kind]
        return window_ms is None or age_ms < window_ms - KEY_WINDOW_MARGIN_MS


def pause_before_look(looks: int) -> int:
    """Return the milliseconds from one look to the next, after so many: by the schedule, daily after its end."""
    return RECONCILE_AFTER_MS[min(looks, len(RECONCILE_AFTER_MS) - 1)]


def time_of_look(looks: int) -> int:
    """Return when, in milliseconds from the first sending, the look after so many is planned."""
    beyond = max(0, looks - len(RECONCILE_AT_MS) + 1)
    return RECONCILE_AT_MS[min(looks, len(RECONCILE_AT_MS) - 1)] + beyond * _DAY_MS


DEFAULT_RULES: Final = Rules(order_life_ms=ORDER_LIFE_MS, claim_life_ms=CLAIM_LIFE_MS, key_windows_ms={})
"""No gateway's key is trusted twice: in doubt, only inquiries."""
