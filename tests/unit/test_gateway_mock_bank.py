"""The Mock's rules of money, as a state machine against sums kept beside it."""

import sqlite3
from dataclasses import replace

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway_adapters.mock import bank, postings
from gateway_adapters.mock.scenarios import Happening, Scenario
from gateway_adapters.mock.storage import SCHEMA
from gateway_adapters.mock.tokens import PLAIN, TokenPlan
from gateway_adapters.mock.wire import Call, Metadata, Status
from schemas.vocabulary import CallKind

AMOUNT = 10_000
TERMS = bank.Terms(now_ms=1_000, plan=PLAIN, happening=None, delay_ms=5, action_base="http://mock", announce=False)
PENDING = replace(TERMS, happening=Happening(scenario=Scenario.PENDING_THEN_SUCCEEDED))
LATER_MS = 10_000


def opened() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    return db


def call(
    kind: CallKind, key: str, payment: str | None = None, amount: int | None = AMOUNT, *, final: bool = False
) -> Call:
    return Call(
        kind=kind,
        gateway_key=key,
        payment=payment,
        amount=None if kind is CallKind.VOID else amount,
        currency="USD",
        token="tok_visa" if payment is None else None,
        final=final,
        metadata=Metadata(origin_id="shop", order_id="1", op_id=f"op_{key}"),
    )


def told(answered: bank.Answered) -> dict[str, object]:
    body: dict[str, object] = orjson.loads(answered.body)
    return body


class Money(RuleBasedStateMachine):
    """Any calls on one authorization, some pending, some failing, some reversed."""

    def __init__(self) -> None:
        super().__init__()
        self.db = opened()
        self.calls: list[tuple[Call, bank.Answered]] = []
        self.payment = ""

    @initialize()
    def authorize(self) -> None:
        answered = bank.execute(self.db, call(CallKind.AUTHORIZE, "0"), TERMS)
        self.payment = str(told(answered)["id"])

    @rule(
        kind=st.sampled_from([CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND]),
        amount=st.integers(1, AMOUNT),
        final=st.booleans(),
        pending=st.booleans(),
    )
    def follow_up(self, kind: CallKind, amount: int, final: bool, pending: bool) -> None:
        asked = call(kind, str(len(self.calls) + 1), self.payment, amount, final=final)
        answered = bank.execute(self.db, asked, PENDING if pending else TERMS)
        assert answered.http_status in {200, 400}
        self.calls.append((asked, answered))

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, 1000))
    def again(self, number: int) -> None:
        asked, answered = self.calls[number % len(self.calls)]
        again = bank.execute(self.db, asked, TERMS)
        assert (again.http_status, again.body, again.replayed) == (answered.http_status, answered.body, True)

    @precondition(lambda self: self.calls)
    @rule(number=st.integers(0, 1000), to=st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.REVERSED]))
    def transition(self, number: int, to: Status) -> None:
        asked, _ = self.calls[number % len(self.calls)]
        operation = postings.find_operation(self.db, key=asked.gateway_key)
        if operation is not None:
            postings.transition(self.db, operation, to=to, pattern=postings.ONCE, now_ms=LATER_MS, gap_ms=1)

    @invariant()
    def ledger_says_what_the_payment_says(self) -> None:
        payment = bank.find_payment(self.db, self.payment) if self.payment else None
        if payment is None:
            return
        sums = dict.fromkeys(CallKind, 0)
        for kind, reversed_kind, amount in self.db.execute("SELECT kind, reversed_kind, amount_minor FROM ledger"):
            sums[CallKind(reversed_kind or kind)] += -amount if kind == "reversal" else amount
        assert sums[CallKind.AUTHORIZE] == payment.authorized
        assert sums[CallKind.CAPTURE] == payment.captured
        assert sums[CallKind.REFUND] == payment.refunded
        assert payment.captured + payment.capturing <= payment.authorized
        assert payment.refunded + payment.refunding <= payment.captured

    @invariant()
    def no_key_has_its_effect_twice(self) -> None:
        counts = self.db.execute(
            "SELECT count(*) FROM ledger WHERE kind <> 'reversal' GROUP BY gateway_key HAVING count(*) > 1"
        ).fetchall()
        assert counts == []

    def teardown(self) -> None:
        self.db.close()


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


@pytest.mark.parametrize(
    ("terms", "status", "http_status"),
    [
        (TERMS, "succeeded", 200),
        (PENDING, "pending", 200),
        (replace(TERMS, plan=TokenPlan(decline="expired_card")), "declined", 402),
        (replace(TERMS, plan=TokenPlan(action_required=True)), "requires_action", 200),
        (replace(TERMS, happening=Happening(scenario=Scenario.UNKNOWN_STATUS)), bank.NOBODY_KNOWS, 200),
    ],
)
def test_answer_is_the_state_of_the_operation(terms: bank.Terms, status: str, http_status: int) -> None:
    answered = bank.execute(opened(), call(CallKind.SALE, "1"), terms)
    assert (answered.http_status, told(answered)["status"]) == (http_status, status)


@pytest.mark.parametrize(("asked", "charged"), [(10_000, 9_999), (1, 2)])
def test_mismatch_charges_one_minor_unit_away_from_what_was_asked(asked: int, charged: int) -> None:
    terms = replace(TERMS, happening=Happening(scenario=Scenario.AMOUNT_MISMATCH))
    assert told(bank.execute(opened(), call(CallKind.SALE, "1", amount=asked), terms))["amount"] == charged


def test_key_with_another_request_is_refused_and_nothing_is_written() -> None:
    db = opened()
    bank.execute(db, call(CallKind.SALE, "1"), TERMS)
    answered = bank.execute(db, call(CallKind.AUTHORIZE, "1"), TERMS)
    assert answered.http_status == 409
    assert db.execute("SELECT count(*) FROM operations").fetchone() == (1,)


def test_follow_up_in_another_currency_or_on_no_payment_is_refused() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.SALE, "1"), TERMS))["id"])
    euro = replace(call(CallKind.REFUND, "2", payment), currency="EUR")
    assert bank.execute(db, euro, TERMS).http_status == 400
    assert bank.execute(db, call(CallKind.REFUND, "3", "mpay_none"), TERMS).http_status == 404


def test_payment_in_waiting_can_be_neither_captured_nor_voided() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "1"), PENDING))["id"])
    assert bank.execute(db, call(CallKind.CAPTURE, "2", payment), TERMS).http_status == 400
    assert bank.execute(db, call(CallKind.VOID, "3", payment), TERMS).http_status == 400
    assert postings.run_due_transitions(db, now_ms=LATER_MS, gap_ms=1) == 1
    assert bank.execute(db, call(CallKind.CAPTURE, "4", payment), TERMS).http_status == 200


def test_sale_is_reversed_whole_and_an_authorization_too() -> None:
    db = opened()
    for kind in (CallKind.SALE, CallKind.AUTHORIZE):
        late = replace(TERMS, happening=Happening(scenario=Scenario.LATE_FAILURE))
        payment = str(told(bank.execute(db, call(kind, kind.value), late))["id"])
        postings.run_due_transitions(db, now_ms=LATER_MS, gap_ms=1)
        left = bank.find_payment(db, payment)
        assert left is not None
        assert (left.authorized, left.captured) == (0, 0)


@pytest.mark.parametrize("void_terms", [TERMS, PENDING], ids=["done", "pending"])
def test_authorization_is_not_taken_back_when_it_is_voided_or_being_voided(void_terms: bank.Terms) -> None:
    db = opened()
    late = replace(TERMS, happening=Happening(scenario=Scenario.LATE_FAILURE))
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "1"), late))["id"])
    assert bank.execute(db, call(CallKind.VOID, "2", payment), void_terms).http_status == 200
    postings.run_due_transitions(db, now_ms=LATER_MS, gap_ms=1)
    left = bank.find_payment(db, payment)
    assert left is not None
    assert (left.authorized, left.released) == (AMOUNT, True)
    assert db.execute("SELECT count(*) FROM ledger WHERE kind = 'reversal'").fetchone() == (0,)
