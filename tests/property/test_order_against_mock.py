"""The engine's books equal the Mock's, whatever the Mock does after a success and however it tells of it.

An order, and the Mock's bank behind it, in memory. Each call meets a scenario; notices come late, early, twice, in any
order, with our metadata or by reference alone. When all of them have come, both have the same sums, to the cent.
"""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_adapters.errors import Code
from gateway_adapters.mock.courses import Manner, Scenario
from gateway_adapters.mock.scenarios import Happening
from schemas.records.commands import Command
from schemas.vocabulary import OperationKind
from tests.support import order_desk
from tests.support.exhibits import sums_of
from tests.support.mock_bank import DELAY_MS, MAX_STEPS, MockedDesk, counted_by, voids_of

MAX_ROUNDS = 60
SCENARIOS = [
    Scenario.SLOW,  # as usual
    Scenario.TIMEOUT_BEFORE,
    Scenario.STORED_500_AFTER,
    Scenario.STORED_500_BEFORE,
    Scenario.PENDING_THEN_SUCCEEDED,
    Scenario.PENDING_THEN_FAILED,
    Scenario.ACTION_EXPIRED,
    Scenario.LATE_FAILURE,
    Scenario.PARTIAL_REVERSAL,
    Scenario.TWO_REVERSALS,
    Scenario.RECAPTURED,
    Scenario.HOLD_EXPIRED,
    Scenario.DESK_REFUND,
    Scenario.PARTIAL_DESK_REFUND,
    Scenario.DISPUTE_OPENED,
    Scenario.DISPUTE_WON,
    Scenario.DISPUTE_LOST,
    Scenario.PARTIAL_DISPUTE_LOST,
    Scenario.CHARGEBACK_WON,
    Scenario.CHARGEBACK_LOST,
    Scenario.PARTIAL_CHARGEBACK_WON,
    Scenario.PARTIAL_CHARGEBACK_LOST,
]
MANNERS = [Manner.DUPLICATE, Manner.BY_REFERENCE, Manner.EARLY, Manner.BATCHED, Manner.STRANGER]


@st.composite
def happenings(draw: st.DrawFn, scenarios: Sequence[Scenario]) -> Happening:
    scenario = draw(st.sampled_from(scenarios))
    return Happening(
        scenario=scenario,
        amount_minor=draw(st.none() | st.integers(1, 12_000)),
        manners=draw(st.frozensets(st.sampled_from(MANNERS), max_size=2)),
    )


def command(desk: MockedDesk, data: st.DataObject, number: int) -> Command:
    """Return the first command, or a later one on the newest payment."""
    key = f"k{number}"
    amount = data.draw(st.integers(1, 10_000))
    if desk.row is None or not desk.row.payments:
        return data.draw(st.sampled_from([order_desk.sale, order_desk.authorize]))(key=key)
    payment = desk.payment.payment_id
    kind = data.draw(st.sampled_from(["capture", "final", "void", "refund", "pay"]))
    match kind:
        case "capture" | "final":
            return order_desk.capture(payment, amount, key=key, final=kind == "final")
        case "void":
            return order_desk.void(payment, key=key)
        case "refund":
            return order_desk.refund(payment, amount, key=key)
        case _:
            return order_desk.sale(key=key)


def hear_some(desk: MockedDesk, data: st.DataObject) -> None:
    waiting = desk.bank.not_delivered
    for _ in range(data.draw(st.integers(0, len(waiting)))):
        body = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        heard = False
        for _ in range(data.draw(st.integers(1, 2))):
            heard = desk.hear(body)
            desk.settle()
        if not heard:
            waiting.append(body)


def come_to_rest(desk: MockedDesk, data: st.DataObject) -> None:
    """Let all that is due happen and be heard, in any order, and the engine look at what it is not sure of."""
    desk.pass_time(MAX_STEPS * DELAY_MS)
    hear_some(desk, data)
    for _ in range(MAX_ROUNDS):
        desk.pass_time(DELAY_MS)
        desk.hear_all()
        due = [op_id for op_id in desk.timers if op_id is not None]
        if due:
            desk.fire(due[0])
            desk.settle()
        elif not desk.bank.not_delivered:
            return


def life(data: st.DataObject, scenarios: Sequence[Scenario]) -> MockedDesk:
    """Return an order that has come to rest after a few commands, each of which met something."""
    desk = MockedDesk()
    for number in range(data.draw(st.integers(1, 4))):
        desk.happening = data.draw(happenings(scenarios))
        # Of one of two operations that the gateway never named, a notice by reference alone can be told by nobody.
        named = Manner.BY_REFERENCE not in desk.happening.manners
        desk.lost = named and data.draw(st.sampled_from([False, False, True]))
        desk.send(command(desk, data, number))
        desk.settle()
        desk.happening, desk.lost = None, False
        desk.pass_time(data.draw(st.sampled_from([0, DELAY_MS, MAX_STEPS * DELAY_MS])))
        hear_some(desk, data)
    come_to_rest(desk, data)
    return desk


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_books_of_order_and_gateway_are_equal_when_all_has_been_said(data: st.DataObject) -> None:
    desk = life(data, SCENARIOS)
    assert desk.row is not None
    assert sums_of(desk.row) == desk.bank.sums()
    # Not voids: how much one lets go follows from the others, and a gateway may confirm anything.
    ours = {
        each.gateway_reference: each.counted_minor
        for each in desk.row.operations
        if each.counted_minor and each.kind is not OperationKind.VOID
    }
    assert ours == {name: minor for name, minor in counted_by(desk.bank).items() if name not in voids_of(desk.bank)}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_books_are_equal_or_a_person_is_asked_when_the_gateway_contradicts_itself(data: st.DataObject) -> None:
    desk = life(data, [*SCENARIOS, Scenario.PARTIAL_APPROVAL, *[Scenario.REFUSED_THEN_SUCCEEDED] * 5])
    assert desk.row is not None
    parts = {
        reference
        for each in desk.row.operations
        if each.error is not None and each.error.code == Code.PARTIALLY_APPROVED
        for reference in [each.gateway_reference]
        if reference is not None
    }
    asked = any(each.review for each in desk.row.payments)
    assert asked or sums_of(desk.row) == desk.bank.sums(without=parts)
