"""The Mock's bank behind an order on a desk, in memory: real calls, real books, real notices, and no socket.

What it says goes the way of a real answer, through the wire's bytes and the adapter's translation. When a notice comes,
and in which order, a test decides.
"""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import orjson

from gateway_adapters.contract import CallResult, GatewayNotice, completed
from gateway_adapters.errors import InDoubtError, Signal
from gateway_adapters.http_transport import Answer
from gateway_adapters.mock import bank, lifecycle, postings, translate, wire
from gateway_adapters.mock.courses import Manner, Scenario, course_of
from gateway_adapters.mock.scenarios import Happening
from gateway_adapters.mock.spec import CAPABILITIES
from gateway_adapters.mock.storage import SCHEMA
from gateway_adapters.mock.tokens import PLAIN
from schemas.identifiers import DEFAULT_ACCOUNT, OpId, gateway_route
from schemas.records.commands import Command
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import CallKind
from streams.domain.inputs import NoticeReceived
from streams.domain.limits import DEFAULT_RULES, Rules
from streams.domain.order import Decision
from tests.support.exhibits import Sums
from tests.support.order_desk import ORDER, ORIGIN, Desk, Said

DELAY_MS = 10
MAX_STEPS = 4
MOCK_RULES = replace(
    DEFAULT_RULES,
    capabilities={gateway_route(translate.NAME, DEFAULT_ACCOUNT): CAPABILITIES},
    key_windows_ms={translate.NAME: CAPABILITIES.key_window_ms},
)
NO_ANSWER = InDoubtError(Signal.READ_TIMEOUT, "Timeout")


def _opened() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    return db


@dataclass(slots=True, kw_only=True)
class MockBank:
    """The books, and the notices that nobody has heard yet."""

    db: sqlite3.Connection = field(default_factory=_opened)
    taken: int = 0  # the last delivery that was taken
    not_delivered: list[bytes] = field(default_factory=list)

    def answer(self, request: GatewayCallRequested, happening: Happening | None, *, now_ms: int) -> CallResult:
        """Return the adapter's result of the call, made now."""
        if request.kind is CallKind.INQUIRE:
            return self._inquired(request)
        if happening is not None and happening.scenario is Scenario.TIMEOUT_BEFORE:
            return translate.from_failure(request, NO_ANSWER)
        terms = bank.Terms(
            now_ms=now_ms,
            plan=PLAIN,
            happening=happening,
            delay_ms=DELAY_MS,
            action_base="https://bank.example",
            announce=False,
        )
        answered = bank.execute(self.db, translate.to_call(request), terms)
        headers = {wire.REPLAYED_HEADER.lower(): "true"} if answered.replayed else {}
        return translate.from_answer(request, Answer(status=answered.http_status, headers=headers, body=answered.body))

    def _inquired(self, request: GatewayCallRequested) -> CallResult:
        reference = request.own_reference
        found = postings.find_operation(self.db, reference=reference, key=request.gateway_key)
        body = {"found": False, "authoritative": True} if found is None else wire.operation_json(found)
        raw = orjson.dumps({"found": True, **body})
        return translate.from_inquiry(request, Answer(status=200, headers={}, body=raw))

    def pass_time(self, now_ms: int) -> None:
        """Let what is due happen, and the webhooks about it go out."""
        while lifecycle.run_due(self.db, now_ms=now_ms):
            continue
        rows = self.db.execute("SELECT seq, body FROM deliveries WHERE seq > ? ORDER BY seq", (self.taken,)).fetchall()
        for seq, body in rows:
            self.taken = seq
            self.not_delivered.append(body)

    def sums(self, *, without: Collection[str] = ()) -> Sums:
        """Return what the order's money came to by the ledger, without these payments."""
        sums = dict.fromkeys(CallKind, 0)
        for payment, kind, reversed_kind, minor in self.db.execute(
            "SELECT payment_id, kind, reversed_kind, amount_minor FROM ledger WHERE kind <> 'expiry'"
        ):
            if payment not in without:
                sums[CallKind(reversed_kind or kind)] += -minor if kind == "reversal" else minor
        return Sums(
            authorized=sums[CallKind.AUTHORIZE] + sums[CallKind.SALE],
            captured=sums[CallKind.SALE] + sums[CallKind.CAPTURE],
            refunded=sums[CallKind.REFUND],
        )


def counted_by(bank: MockBank) -> dict[str, int]:
    """Return what each operation counts for by the ledger, of those that count: by the Mock's id of it."""
    counted: dict[str, int] = {}
    ledger = bank.db.execute("SELECT operation_id, kind, amount_minor FROM ledger WHERE kind <> 'expiry'").fetchall()
    for operation, kind, minor in ledger:
        counted[operation] = counted.get(operation, 0) + (-minor if kind == "reversal" else minor)
    return {operation: minor for operation, minor in counted.items() if minor}


def voids_of(bank: MockBank) -> frozenset[str]:
    """Return the Mock's ids of the voids in its ledger."""
    return frozenset(name for (name,) in bank.db.execute("SELECT operation_id FROM ledger WHERE kind = 'void'"))


def _is_early(happening: Happening, kind: CallKind) -> bool:
    return Manner.EARLY in happening.manners | course_of(happening.scenario, kind).manners


@dataclass(slots=True, kw_only=True)
class MockedDesk(Desk):
    """An order whose gateway is the Mock."""

    rules: Rules = MOCK_RULES
    bank: MockBank = field(default_factory=MockBank)
    happening: Happening | None = None  # of the next call that is to have an effect
    lost: bool = False  # the answer to that call never comes

    def call(self, said: Said | None = None) -> GatewayCallCompleted:
        """Let the Mock answer the oldest request."""
        assert said is None
        request = self.requests.popleft()
        happening, lost = None, False
        if request.kind is not CallKind.INQUIRE:
            happening, self.happening, lost, self.lost = self.happening, None, self.lost, False
        answer = self.bank.answer(request, happening, now_ms=self.now_ms)
        if lost:
            answer = translate.from_failure(request, NO_ANSWER)
        self.bank.pass_time(self.now_ms)
        if happening is not None and _is_early(happening, request.kind):
            self.bank.not_delivered[:] = [body for body in self.bank.not_delivered if not self.hear(body)]
        result = completed(request, answer, completed_at_ms=self.now_ms)
        self.result(result)
        return result

    def do_meeting(self, command: Command, scenario: Scenario, *manners: Manner, lost: bool = False) -> OpId:
        """Give the command, whose call meets this, and let all that comes of it happen; nobody hears of it yet."""
        self.happening, self.lost = Happening(scenario=scenario, manners=frozenset(manners)), lost
        op_id = self.do(command)
        self.pass_time(MAX_STEPS * DELAY_MS)
        return op_id

    def hear_all(self) -> None:
        """Let the order hear what the Mock has told, in its order, and act on it."""
        self.bank.not_delivered[:] = [body for body in self.bank.not_delivered if not self.hear(body)]
        self.settle()

    def hear(self, body: bytes) -> bool:
        """Let the order hear what a webhook says to it; False, and nothing is heard, when the index has to wait.

        What names another order is nothing to it. What names no order goes by the payment's reference: the index knows
        it once the payment's opening was answered.
        """
        heard = [self._addressed(notice) for notice in translate.notices_of(body)]
        if any(notice is not None and notice.order_id is None for notice in heard):
            return False
        for notice in heard:
            if notice is not None:
                self.hear_notice(notice)
        return True

    def _addressed(self, notice: GatewayNotice) -> GatewayNotice | None:
        if notice.order_id is not None:
            return notice if notice.order_id == ORDER else None
        if postings.find_operation(self.bank.db, reference=notice.payment_reference) is None:
            return None  # a stranger's: it waits in the index until it is given up
        payments = () if self.row is None else self.row.payments
        if any(each.gateway_reference == notice.payment_reference for each in payments):
            return replace(notice, origin_id=ORIGIN, order_id=ORDER)
        return notice

    def hear_notice(self, notice: GatewayNotice) -> Decision:
        return self.take(
            NoticeReceived(notice=notice, now_ms=self.now_ms, possible_replay=self.replay, account=DEFAULT_ACCOUNT)
        )

    def pass_time(self, after_ms: int) -> None:
        """Let so much time pass at the Mock; nobody hears of it yet."""
        self.now_ms += after_ms
        self.bank.pass_time(self.now_ms)
