"""The Mock's rules of money, as a state machine against sums kept beside it."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway_adapters.contract import GatewayNotice
from gateway_adapters.mock import actions, bank, lifecycle, postings, translate
from gateway_adapters.mock.actions import Action
from gateway_adapters.mock.courses import Manner, Scenario, Word
from gateway_adapters.mock.lifecycle import Change
from gateway_adapters.mock.scenarios import Happening
from gateway_adapters.mock.storage import SCHEMA
from gateway_adapters.mock.tokens import PLAIN, TokenPlan
from gateway_adapters.mock.wire import Call, Completion, Metadata, Operation, Status
from schemas.vocabulary import CallKind, Outcome

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


def notices(db: sqlite3.Connection) -> list[GatewayNotice]:
    """Return what the Mock tells by webhook, in the order in which it tells it."""
    bodies = db.execute("SELECT body FROM deliveries ORDER BY due_ms, seq").fetchall()
    return [notice for (body,) in bodies for notice in translate.notices_of(body)]


@dataclass(frozen=True, slots=True)
class Told:
    """One word about an operation."""

    operation: str
    at_ms: int
    outcome: Outcome
    case: str | None
    amount: int


def folded(words: Iterable[Told]) -> dict[str, int]:
    """Return what each operation counts for, by its words sorted by time: what an engine makes of them.

    A success is absolute. What is taken back counts once a case, and comes back when its dispute is won.
    """
    base: dict[str, int] = {}
    taken: defaultdict[str, dict[str | None, int]] = defaultdict(dict)
    for word in sorted(set(words), key=lambda each: each.at_ms):
        match word.outcome:
            case Outcome.SUCCEEDED:
                base[word.operation] = word.amount
                taken[word.operation] = {}
            case Outcome.REVERSED | Outcome.DISPUTE_LOST:
                taken[word.operation][word.case] = word.amount
            case Outcome.DISPUTE_WON:
                taken[word.operation].pop(word.case, None)
            case _:
                pass
    counted = {each: max(0, amount - sum(taken[each].values())) for each, amount in base.items()}
    return {each: amount for each, amount in counted.items() if amount}


class Money(RuleBasedStateMachine):
    """Any calls on one authorization, some pending, some failing, some reversed."""

    def __init__(self) -> None:
        super().__init__()
        self.db = opened()
        self.calls: list[tuple[Call, bank.Answered]] = []
        self.inquiries: list[Told] = []
        self.opening: dict[str, object] = {}
        self.payment = ""

    @initialize()
    def authorize(self) -> None:
        answered = bank.execute(self.db, call(CallKind.AUTHORIZE, "0"), TERMS)
        self.opening = told(answered)
        self.payment = str(self.opening["id"])

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
    @rule(
        number=st.integers(0, 4),
        word=st.sampled_from(Word),
        amount=st.none() | st.integers(1, AMOUNT),
        case=st.integers(0, 2),
        asked=st.booleans(),
    )
    def happens(self, number: int, word: Word, amount: int | None, case: int, asked: bool) -> None:
        operation = self.any_operation(number)
        if operation is None:
            return
        cases = [row[0] for row in self.db.execute("SELECT id FROM cases WHERE operation_id = ?", (operation.id,))]
        change = Change(word=word, amount_minor=amount, case=cases[case] if case < len(cases) else None)
        lifecycle.carry_out(self.db, operation, change, now_ms=TERMS.now_ms)
        if asked:
            self.inquire(number)

    def inquire(self, number: int) -> None:
        operation = self.any_operation(number)
        if operation is not None and operation.status in (Status.SUCCEEDED, Status.REVERSED):
            outcome = Outcome.SUCCEEDED if operation.status == Status.SUCCEEDED else Outcome.REVERSED
            case = operation.case
            amount = operation.amount if case is None else case.amount
            self.inquiries.append(
                Told(operation.id, operation.updated_ms, outcome, None if case is None else case.id, amount)
            )

    def any_operation(self, number: int) -> Operation | None:
        keys = ["0", *(asked.gateway_key for asked, _ in self.calls)]
        return postings.find_operation(self.db, key=keys[number % len(keys)])

    @invariant()
    def ledger_says_what_the_payment_says(self) -> None:
        payment = bank.find_payment(self.db, self.payment) if self.payment else None
        if payment is None:
            return
        sums = dict.fromkeys(CallKind, 0)
        counted: defaultdict[str, int] = defaultdict(int)
        ledger = self.db.execute("SELECT operation_id, kind, reversed_kind, amount_minor FROM ledger").fetchall()
        for operation, kind, reversed_kind, amount in ledger:
            if kind != "expiry":
                signed = -amount if kind == "reversal" else amount
                sums[CallKind(reversed_kind or kind)] += signed
                counted[operation] += signed
        assert sums[CallKind.AUTHORIZE] == payment.authorized
        assert sums[CallKind.CAPTURE] == payment.captured
        assert sums[CallKind.REFUND] == payment.refunded
        stands = dict(self.db.execute("SELECT id, counted FROM operations WHERE counted > 0").fetchall())
        assert stands == {operation: amount for operation, amount in counted.items() if amount}

    @invariant()
    def notices_and_inquiries_sorted_by_time_say_what_each_operation_counts_for(self) -> None:
        words = [*self.answers(), *self.inquiries]
        for notice in notices(self.db):
            assert notice.gateway_reference is not None
            assert notice.confirmed_amount_minor is not None
            said = (notice.outcome, notice.case_reference, notice.confirmed_amount_minor)
            words.append(Told(notice.gateway_reference, notice.occurred_at_ms, *said))
        stands = dict(self.db.execute("SELECT id, counted FROM operations").fetchall())
        assert folded(words) == {each: amount for each, amount in stands.items() if amount}
        assert len({(each.operation, each.at_ms) for each in words}) == len(set(words))

    def answers(self) -> list["Told"]:
        bodies = [self.opening, *(told(answered) for _, answered in self.calls if answered.http_status == 200)]
        return [
            Told(str(body["id"]), TERMS.now_ms, Outcome.SUCCEEDED, None, int(str(body["amount"])))
            for body in bodies
            if body["status"] == "succeeded"
        ]

    @invariant()
    def no_key_has_its_effect_twice(self) -> None:
        counts = self.db.execute(
            "SELECT count(*) FROM ledger WHERE kind NOT IN ('reversal', 'restoral', 'expiry')"
            " GROUP BY gateway_key HAVING count(*) > 1"
        ).fetchall()
        assert counts == []

    def teardown(self) -> None:
        self.db.close()


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)


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
    assert lifecycle.run_due(db, now_ms=LATER_MS) == 1
    assert bank.execute(db, call(CallKind.CAPTURE, "4", payment), TERMS).http_status == 200


def test_sale_is_reversed_whole_and_an_authorization_too() -> None:
    db = opened()
    for kind in (CallKind.SALE, CallKind.AUTHORIZE):
        late = replace(TERMS, happening=Happening(scenario=Scenario.LATE_FAILURE))
        payment = str(told(bank.execute(db, call(kind, kind.value), late))["id"])
        lifecycle.run_due(db, now_ms=LATER_MS)
        left = bank.find_payment(db, payment)
        assert left is not None
        assert (left.authorized, left.captured) == (0, 0)


@pytest.mark.parametrize("void_terms", [TERMS, PENDING], ids=["done", "pending"])
def test_authorization_is_not_taken_back_when_it_is_voided_or_being_voided(void_terms: bank.Terms) -> None:
    db = opened()
    late = replace(TERMS, happening=Happening(scenario=Scenario.LATE_FAILURE))
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "1"), late))["id"])
    assert bank.execute(db, call(CallKind.VOID, "2", payment), void_terms).http_status == 200
    lifecycle.run_due(db, now_ms=LATER_MS)
    left = bank.find_payment(db, payment)
    assert left is not None
    assert (left.authorized, left.released) == (AMOUNT, True)
    assert db.execute("SELECT count(*) FROM ledger WHERE kind = 'reversal'").fetchone() == (0,)


# What comes later, by scenario


def played(kind: CallKind, scenario: Scenario, **wishes: object) -> sqlite3.Connection:
    """Let one call meet the scenario, and all that comes later of it happen; a capture has its authorization."""
    db = opened()
    payment = None
    if kind is CallKind.CAPTURE:
        payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "0"), TERMS))["id"])
    happening = replace(Happening(scenario=scenario), **wishes)  # type: ignore[arg-type]  # a test names any field
    bank.execute(db, call(kind, "1", payment), replace(TERMS, happening=happening))
    for now_ms in range(TERMS.now_ms, LATER_MS, TERMS.delay_ms):
        lifecycle.run_due(db, now_ms=now_ms)
    return db


def sums(db: sqlite3.Connection) -> tuple[int, int, int]:
    """Return what the only payment holds, took and gave back."""
    (row,) = db.execute("SELECT authorized, captured, refunded FROM payments").fetchall()
    return int(row[0]), int(row[1]), int(row[2])


def said(db: sqlite3.Connection) -> list[tuple[Outcome, int | None]]:
    return [(notice.outcome, notice.confirmed_amount_minor) for notice in notices(db)]


@pytest.mark.parametrize("kind", [CallKind.SALE, CallKind.CAPTURE])
@pytest.mark.parametrize(
    ("scenario", "words", "captured", "refunded"),
    [
        (Scenario.LATE_FAILURE, [(Outcome.REVERSED, 10_000)], 0, 0),
        (Scenario.PARTIAL_REVERSAL, [(Outcome.REVERSED, 3_000)], 7_000, 0),
        (Scenario.TWO_REVERSALS, [(Outcome.REVERSED, 3_000), (Outcome.REVERSED, 2_000)], 5_000, 0),
        (Scenario.RECAPTURED, [(Outcome.REVERSED, 10_000), (Outcome.SUCCEEDED, 10_000)], 10_000, 0),
        (Scenario.DESK_REFUND, [(Outcome.SUCCEEDED, 10_000)], 10_000, 10_000),
        (Scenario.PARTIAL_DESK_REFUND, [(Outcome.SUCCEEDED, 3_000)], 10_000, 3_000),
        (Scenario.DISPUTE_OPENED, [(Outcome.DISPUTE_OPENED, 10_000)], 10_000, 0),
        (Scenario.DISPUTE_WON, [(Outcome.DISPUTE_OPENED, 10_000), (Outcome.DISPUTE_WON, 10_000)], 10_000, 0),
        (Scenario.DISPUTE_LOST, [(Outcome.DISPUTE_OPENED, 10_000), (Outcome.DISPUTE_LOST, 10_000)], 0, 0),
        (Scenario.PARTIAL_DISPUTE_LOST, [(Outcome.DISPUTE_OPENED, 3_000), (Outcome.DISPUTE_LOST, 3_000)], 7_000, 0),
        (
            Scenario.CHARGEBACK_WON,
            [(Outcome.DISPUTE_OPENED, 10_000), (Outcome.REVERSED, 10_000), (Outcome.DISPUTE_WON, 10_000)],
            10_000,
            0,
        ),
        (
            Scenario.CHARGEBACK_LOST,
            [(Outcome.REVERSED, 10_000), (Outcome.DISPUTE_OPENED, 10_000), (Outcome.DISPUTE_LOST, 10_000)],
            0,
            0,
        ),
        (
            Scenario.PARTIAL_CHARGEBACK_LOST,
            [(Outcome.DISPUTE_OPENED, 3_000), (Outcome.REVERSED, 3_000), (Outcome.DISPUTE_LOST, 3_000)],
            7_000,
            0,
        ),
        (
            Scenario.PARTIAL_CHARGEBACK_WON,
            [(Outcome.DISPUTE_OPENED, 3_000), (Outcome.REVERSED, 3_000), (Outcome.DISPUTE_WON, 3_000)],
            10_000,
            0,
        ),
        (Scenario.PENDING_THEN_SUCCEEDED, [(Outcome.SUCCEEDED, 10_000)], 10_000, 0),
        (Scenario.PENDING_THEN_FAILED, [(Outcome.DECLINED, 10_000)], 0, 0),
        (Scenario.REFUSED_THEN_SUCCEEDED, [(Outcome.SUCCEEDED, 10_000)], 10_000, 0),
    ],
)
def test_scenario_is_told_and_the_books_say_the_same(
    kind: CallKind, scenario: Scenario, words: list[tuple[Outcome, int]], captured: int, refunded: int
) -> None:
    db = played(kind, scenario)
    assert said(db) == words
    assert sums(db)[1:] == (captured, refunded)


def test_every_word_about_one_dispute_names_the_same_case_and_each_reversal_has_its_own() -> None:
    chargeback = {notice.case_reference for notice in notices(played(CallKind.SALE, Scenario.CHARGEBACK_LOST))}
    assert len(chargeback) == 1
    assert None not in chargeback
    twice = {notice.case_reference for notice in notices(played(CallKind.SALE, Scenario.TWO_REVERSALS))}
    assert len(twice) == 2


def test_rule_says_how_much_a_part_is() -> None:
    db = played(CallKind.SALE, Scenario.PARTIAL_DISPUTE_LOST, amount_minor=1)
    assert said(db) == [(Outcome.DISPUTE_OPENED, 1), (Outcome.DISPUTE_LOST, 1)]
    assert sums(db) == (9_999, 9_999, 0)


def test_hold_that_ran_out_can_neither_be_captured_nor_voided_and_what_was_captured_stays() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "0"), TERMS))["id"])
    bank.execute(db, call(CallKind.CAPTURE, "1", payment, 4_000), TERMS)
    hold = postings.find_operation(db, reference=payment)
    assert hold is not None
    assert lifecycle.carry_out(db, hold, Change(word=Word.EXPIRED), now_ms=LATER_MS)
    assert said(db) == [(Outcome.EXPIRED, 10_000)]
    assert bank.execute(db, call(CallKind.CAPTURE, "2", payment, 1), TERMS).http_status == 400
    assert bank.execute(db, call(CallKind.VOID, "3", payment), TERMS).http_status == 400
    assert bank.execute(db, call(CallKind.REFUND, "4", payment, 4_000), TERMS).http_status == 200
    assert db.execute("SELECT kind, amount_minor FROM ledger WHERE kind = 'expiry'").fetchall() == [("expiry", 6_000)]
    assert sums(db) == (10_000, 4_000, 4_000)


def test_scenario_of_another_kind_of_call_changes_nothing() -> None:
    db = played(CallKind.SALE, Scenario.HOLD_EXPIRED)
    assert (said(db), sums(db)) == ([], (10_000, 10_000, 0))


def test_partial_approval_holds_less_than_was_asked_for() -> None:
    assert sums(played(CallKind.SALE, Scenario.PARTIAL_APPROVAL)) == (6_000, 6_000, 0)
    assert sums(played(CallKind.SALE, Scenario.PARTIAL_APPROVAL, amount_minor=2_500)) == (2_500, 2_500, 0)
    assert sums(played(CallKind.CAPTURE, Scenario.PARTIAL_APPROVAL)) == (10_000, 10_000, 0)


@pytest.mark.parametrize(("scenario", "effects"), [(Scenario.STORED_500_BEFORE, 0), (Scenario.STORED_500_AFTER, 1)])
def test_server_error_is_kept_under_its_key_and_given_again(scenario: Scenario, effects: int) -> None:
    db = opened()
    asked = call(CallKind.SALE, "1")
    first = bank.execute(db, asked, replace(TERMS, happening=Happening(scenario=scenario)))
    again = bank.execute(db, asked, TERMS)
    assert (first.http_status, again.http_status, again.replayed) == (500, 500, True)
    assert db.execute("SELECT count(*) FROM ledger").fetchone() == (effects,)
    assert (postings.find_operation(db, key="1") is not None) == bool(effects)


def test_void_releases_the_rest_of_a_partly_captured_hold() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "0"), TERMS))["id"])
    bank.execute(db, call(CallKind.CAPTURE, "1", payment, 6_000), TERMS)
    assert told(bank.execute(db, call(CallKind.VOID, "2", payment), TERMS))["amount"] == 4_000
    assert bank.execute(db, call(CallKind.CAPTURE, "3", payment, 1), TERMS).http_status == 400
    assert bank.execute(db, call(CallKind.VOID, "4", payment), TERMS).http_status == 400
    assert sums(db) == (10_000, 6_000, 0)


def test_void_of_a_hold_that_was_captured_whole_is_refused() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "0"), TERMS))["id"])
    bank.execute(db, call(CallKind.CAPTURE, "1", payment), TERMS)
    assert bank.execute(db, call(CallKind.VOID, "2", payment), TERMS).http_status == 400


def test_final_capture_that_fails_late_leaves_its_hold_to_be_captured_or_voided() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "0"), TERMS))["id"])
    late = replace(TERMS, happening=Happening(scenario=Scenario.LATE_FAILURE))
    bank.execute(db, call(CallKind.CAPTURE, "1", payment, 6_000, final=True), late)
    assert bank.execute(db, call(CallKind.CAPTURE, "2", payment, 1), TERMS).http_status == 400
    lifecycle.run_due(db, now_ms=LATER_MS)
    assert bank.execute(db, call(CallKind.CAPTURE, "3", payment, 6_000), TERMS).http_status == 200
    assert bank.execute(db, call(CallKind.VOID, "4", payment), TERMS).http_status == 200
    assert sums(db) == (10_000, 6_000, 0)


def test_payment_that_waits_for_its_payer_is_cancelled_by_a_void() -> None:
    db = opened()
    waiting = replace(TERMS, plan=TokenPlan(action_required=True))
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "0"), waiting))["id"])
    assert bank.execute(db, call(CallKind.CAPTURE, "1", payment), TERMS).http_status == 400
    assert bank.execute(db, call(CallKind.VOID, "2", payment), TERMS).http_status == 200
    cancelled = postings.find_operation(db, reference=payment)
    assert cancelled is not None
    assert cancelled.status == Status.FAILED
    (notice,) = notices(db)
    assert notice.outcome is Outcome.DECLINED
    assert notice.error is not None
    assert notice.error.code == "cancelled"
    assert not lifecycle.carry_out(db, cancelled, Change(word=Word.SUCCEEDED), now_ms=LATER_MS)
    assert bank.execute(db, call(CallKind.VOID, "3", payment), TERMS).http_status == 400
    assert sums(db) == (0, 0, 0)


def standing(db: sqlite3.Connection, reference: str) -> Operation:
    operation = postings.find_operation(db, reference=reference)
    assert operation is not None
    return operation


def asked_to_complete(kind: CallKind = CallKind.SALE) -> tuple[sqlite3.Connection, str, Action]:
    """Return a payment that waits for its payer, and then for the engine."""
    db = played(kind, Scenario.COMPLETION_REQUIRED)
    (payment,) = db.execute("SELECT id FROM payments").fetchone()
    action = actions.find(db, payment)
    assert action is not None
    return db, payment, action


def completion(payment: str, key: str, **parameters: str) -> Completion:
    return Completion(gateway_key=key, payment=payment, parameters=parameters)


@pytest.mark.parametrize(
    ("said", "http_status", "status", "taken"),
    [(Status.SUCCEEDED, 200, "succeeded", 10_000), (Status.FAILED, 402, "failed", 0)],
)
def test_payment_is_decided_by_its_completion_and_not_by_what_the_payer_said(
    said: Status, http_status: int, status: str, taken: int
) -> None:
    db, payment, action = asked_to_complete()
    opening = standing(db, payment)
    early = bank.complete(db, completion(payment, "c1", **action.return_parameters), TERMS)
    assert told(early)["status"] == "requires_action"  # the payer has not acted
    assert actions.answer(db, opening, action, said, now_ms=LATER_MS)
    assert sums(db) == (0, 0, 0)
    wrong = bank.complete(db, completion(payment, "c2", mock_result="guessed"), TERMS)
    assert (wrong.http_status, sums(db)) == (400, (0, 0, 0))
    done = bank.complete(db, completion(payment, "c3", **action.return_parameters), TERMS)
    assert (done.http_status, told(done)["status"], told(done)["id"]) == (http_status, status, payment)
    assert sums(db)[1] == taken
    assert [notice.outcome for notice in notices(db)] == [Outcome.SUCCEEDED if taken else Outcome.DECLINED]


def test_completion_has_one_effect_by_its_own_key_and_by_another() -> None:
    db, payment, action = asked_to_complete(CallKind.AUTHORIZE)
    opening = standing(db, payment)
    assert actions.answer(db, opening, action, Status.SUCCEEDED, now_ms=LATER_MS)
    assert not actions.answer(db, opening, replace(action, answer=Status.SUCCEEDED), Status.FAILED, now_ms=LATER_MS)
    first, again, other = (
        bank.complete(db, completion(payment, key, **action.return_parameters), TERMS) for key in ("c1", "c1", "c2")
    )
    assert (again.body, again.replayed) == (first.body, True)
    assert (other.http_status, told(other)["status"]) == (200, "succeeded")
    assert db.execute("SELECT kind, amount_minor FROM ledger").fetchall() == [("authorize", 10_000)]
    assert bank.complete(db, completion(payment, "c1", mock_result="other"), TERMS).http_status == 409
    assert bank.complete(db, completion("mpay_none", "c4"), TERMS).http_status == 404


def test_completion_after_a_void_finds_the_payment_cancelled() -> None:
    db, payment, action = asked_to_complete()
    assert bank.execute(db, call(CallKind.VOID, "v", payment), TERMS).http_status == 200
    assert not actions.answer(db, standing(db, payment), action, Status.SUCCEEDED, now_ms=LATER_MS)
    done = bank.complete(db, completion(payment, "c1", **action.return_parameters), TERMS)
    assert (done.http_status, told(done)["failure"]) == (402, {"code": "cancelled", "advice": None})
    assert sums(db) == (0, 0, 0)


def test_completion_of_a_payment_that_needs_none_tells_how_it_stands() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.SALE, "1"), TERMS))["id"])
    assert told(bank.complete(db, completion(payment, "c1"), TERMS))["status"] == "succeeded"
    assert sums(db) == (10_000, 10_000, 0)


@pytest.mark.parametrize(
    ("url", "code", "back"),
    [
        ("https://shop.example/back", "c", "https://shop.example/back?mock_result=c"),
        ("https://shop.example/back?cart=1#top", "c", "https://shop.example/back?cart=1&mock_result=c#top"),
        ("https://shop.example/back", None, "https://shop.example/back"),
        (None, "c", None),
    ],
)
def test_payer_comes_back_with_what_completes_the_payment(url: str | None, code: str | None, back: str | None) -> None:
    assert Action(operation="mpay_1", return_url=url, code=code, answer=None).returns_to() == back


def test_action_that_expires_is_a_refusal_with_its_own_code() -> None:
    (notice,) = notices(played(CallKind.AUTHORIZE, Scenario.ACTION_EXPIRED))
    assert notice.outcome is Outcome.DECLINED
    assert notice.error is not None
    assert notice.error.code == "action_expired"


def test_refund_at_the_gateways_desk_names_its_payment_and_nothing_of_ours() -> None:
    db = played(CallKind.CAPTURE, Scenario.DESK_REFUND)
    (notice,) = notices(db)
    assert (notice.origin_id, notice.order_id, notice.op_id) == (None, None, None)
    assert (notice.kind, notice.outcome) == (CallKind.REFUND, Outcome.SUCCEEDED)
    (payment,) = db.execute("SELECT id FROM payments").fetchone()
    assert notice.payment_reference == payment
    assert notice.gateway_reference not in {None, payment}
    entry = db.execute("SELECT op_id, gateway_key, order_id, at_desk FROM ledger WHERE kind = 'refund'").fetchone()
    assert entry == (notice.gateway_reference, notice.gateway_reference, "1", 1)


def test_chargeback_takes_what_was_refunded_already_too() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.SALE, "0"), TERMS))["id"])
    bank.execute(db, call(CallKind.REFUND, "1", payment, 4_000), TERMS)
    sale = postings.find_operation(db, reference=payment)
    assert sale is not None
    assert lifecycle.carry_out(db, sale, Change(word=Word.REVERSED), now_ms=LATER_MS)
    assert sums(db) == (0, 0, 4_000)


def test_gateway_captures_again_though_the_merchant_did_so_meanwhile() -> None:
    db = opened()
    payment = str(told(bank.execute(db, call(CallKind.AUTHORIZE, "0"), TERMS))["id"])
    bank.execute(db, call(CallKind.CAPTURE, "1", payment), TERMS)
    for word in (Word.REVERSED, Word.RESTORED):
        capture = postings.find_operation(db, key="1")
        assert capture is not None
        assert lifecycle.carry_out(db, capture, Change(word=word), now_ms=LATER_MS)
        if word is Word.REVERSED:
            assert bank.execute(db, call(CallKind.CAPTURE, "2", payment), TERMS).http_status == 200
    assert sums(db) == (10_000, 20_000, 0)


# How notices come


@pytest.mark.parametrize("scenario", [Scenario.DISPUTE_LOST, Scenario.OUT_OF_ORDER_WEBHOOKS])
def test_out_of_order_the_oldest_notice_comes_last(scenario: Scenario) -> None:
    db = played(CallKind.SALE, scenario, manners=frozenset({Manner.OUT_OF_ORDER}))
    times = [notice.occurred_at_ms for notice in notices(db)]
    assert len(times) >= 2
    assert times == sorted(times, reverse=True)


def test_notices_by_reference_name_no_order() -> None:
    db = played(CallKind.CAPTURE, Scenario.DISPUTE_LOST, manners=frozenset({Manner.BY_REFERENCE}))
    for notice in notices(db):
        assert (notice.origin_id, notice.order_id, notice.op_id) == (None, None, None)
        assert (notice.gateway_reference or "").startswith("mcap_")
        assert (notice.payment_reference or "").startswith("mpay_")


def test_notices_by_our_reference_give_back_the_operation_and_nothing_else_of_ours() -> None:
    db = played(CallKind.SALE, Scenario.DISPUTE_LOST, manners=frozenset({Manner.BY_OUR_REFERENCE}))
    plain = notices(played(CallKind.SALE, Scenario.DISPUTE_LOST))
    assert plain[0].op_id is not None
    for notice in notices(db):
        assert (notice.origin_id, notice.order_id, notice.op_id) == (None, None, plain[0].op_id)


def test_batched_event_comes_with_what_concerns_others_or_nobody() -> None:
    db = played(CallKind.SALE, Scenario.BATCHED_WEBHOOKS)
    rows = db.execute("SELECT batched, due_ms FROM deliveries").fetchall()
    assert len(rows) == 4
    assert len(set(rows)) == 1
    ours, others = notices(db)
    assert (ours.order_id, ours.outcome) == ("1", Outcome.SUCCEEDED)
    assert (others.origin_id, others.outcome) == ("elsewhere", Outcome.SUCCEEDED)


def test_strangers_notice_names_a_payment_that_nobody_here_made() -> None:
    db = played(CallKind.SALE, Scenario.STRANGERS_WEBHOOK)
    _, stranger = notices(db)
    assert (stranger.op_id, stranger.order_id) == (None, None)
    assert postings.find_operation(db, reference=stranger.gateway_reference) is None


def test_accounts_know_nothing_of_each_others_keys_and_payments() -> None:
    db = opened()
    second = replace(TERMS, account="second")
    payment = str(told(bank.execute(db, call(CallKind.SALE, "1"), TERMS))["id"])
    other = told(bank.execute(db, call(CallKind.SALE, "1"), second))
    assert other["id"] != payment
    assert bank.execute(db, call(CallKind.REFUND, "2", payment), second).http_status == 404
    assert bank.execute(db, call(CallKind.REFUND, "2", payment), TERMS).http_status == 200
    assert db.execute("SELECT account, count(*) FROM ledger GROUP BY account").fetchall() == [
        ("default", 2),
        ("second", 1),
    ]


@pytest.mark.parametrize("word", [Word.DISPUTE_WON, Word.DISPUTE_LOST, Word.RESTORED, Word.FAILED, Word.EXPIRED])
def test_what_cannot_happen_to_an_operation_changes_nothing(word: Word) -> None:
    db = played(CallKind.SALE, Scenario.SLOW)
    sale = postings.find_operation(db, key="1")
    assert sale is not None
    assert not lifecycle.carry_out(db, sale, Change(word=word), now_ms=LATER_MS)
    assert (said(db), sums(db)) == ([], (10_000, 10_000, 0))
    assert postings.find_operation(db, key="1") == sale
