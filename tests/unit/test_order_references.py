"""Which references an order is known by, when it says them, and what it drops at its end."""

from dataclasses import replace

from gateway_adapters.mock.spec import CAPABILITIES, MockAccount
from gateway_adapters.notices import MAX_REFERENCE_CHARS
from schemas.identifiers import DEFAULT_ACCOUNT, GatewayName
from schemas.records.orders import OrderRow
from schemas.vocabulary import CallKind, OperationKind, RetryAdvice
from streams.domain.references import Indexed, known_by, to_drop, to_register
from tests.support.order_desk import MOCK, ORDER, ORIGIN, OTHER, Desk, Said, authorize, capture, plan, refusal

OPENING = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
INDEXED: Indexed = dict.fromkeys((MOCK, OTHER), CAPABILITIES)
BY_OURS: Indexed = dict.fromkeys((MOCK, OTHER), replace(CAPABILITIES, own_references_indexed=OPENING))


def names(row: OrderRow | None, indexed: Indexed = INDEXED) -> set[tuple[str, str]]:
    assert row is not None
    return {(known.gateway, known.reference) for known in known_by(row, indexed)}


def authorized(**said: object) -> Desk:
    desk = Desk(plan=plan("mock", "other"))
    desk.do(authorize(), Said(**{"reference": "psp-1", **said}))  # type: ignore[arg-type]  # a test names any field
    return desk


def test_order_is_known_by_what_opened_its_payment_alone() -> None:
    desk = authorized()
    assert names(desk.row) == {("mock", "psp-1")}
    desk.do(capture(desk.payment.payment_id), Said(reference="cap-1"))
    assert names(desk.row) == {("mock", "psp-1")}
    every = dict.fromkeys((MOCK,), replace(CAPABILITIES, references_indexed=frozenset(CallKind)))
    assert names(desk.row, every) == {("mock", "psp-1"), ("mock", "cap-1")}


def test_reference_is_said_with_the_decision_that_learns_it_and_again_on_a_replay() -> None:
    desk = Desk()
    desk.send(authorize())
    desk.grant()
    before = desk.row
    assert to_register(None, before, INDEXED, again=True) == ()
    desk.call(Said(reference="psp-1"))
    (kept,) = to_register(before, desk.row, INDEXED, again=False)
    assert (kept.gateway, kept.account, kept.reference) == ("mock", "default", "psp-1")
    assert (kept.origin_id, kept.order_id, kept.kind) == (ORIGIN, ORDER, OperationKind.AUTHORIZE)
    assert to_register(desk.row, desk.row, INDEXED, again=False) == ()
    assert to_register(desk.row, desk.row, INDEXED, again=True) == (kept,)
    desk.do(capture(desk.payment.payment_id, 1_000))
    assert to_register(before, desk.row, INDEXED, again=False) == (kept,)


def test_our_reference_is_said_with_the_intent_where_the_gateway_wants_that() -> None:
    desk = Desk()
    op_id = desk.send(authorize())
    before = desk.row
    assert to_register(None, before, BY_OURS, again=True) == ()
    desk.grant()
    assert [each.reference for each in to_register(before, desk.row, BY_OURS, again=False)] == [op_id]
    assert to_register(before, desk.row, INDEXED, again=False) == ()
    assert len(op_id) == 35  # Adyen allows 80 characters, PayPal 127


def test_order_is_known_by_its_earlier_attempts_too() -> None:
    """A late word about the first gateway, which names nothing of ours, has to find the order."""
    desk = Desk(plan=plan("mock", "other"))
    refused = replace(refusal(RetryAdvice.OTHER_GATEWAY), reference="psp-1")
    op_id = desk.do(authorize(), refused, Said(reference="psp-2"))
    assert names(desk.row) == {("mock", "psp-1"), ("other", "psp-2")}
    assert names(desk.row, BY_OURS) == {("mock", "psp-1"), ("other", "psp-2"), ("mock", op_id), ("other", op_id)}


def test_reference_of_a_gateway_that_is_not_here_or_too_long_is_not_indexed() -> None:
    assert names(authorized().row, {GatewayName("third"): CAPABILITIES}) == set()
    assert names(authorized(reference="x" * (MAX_REFERENCE_CHARS + 1)).row) == set()
    assert len(names(authorized(reference="x" * MAX_REFERENCE_CHARS).row)) == 1


def test_account_whose_notices_name_their_orders_says_our_own_references_alone() -> None:
    row = authorized().row
    anyway = {(MOCK, DEFAULT_ACCOUNT)}
    assert to_register(None, row, INDEXED, named_anyway=anyway, again=True) == ()
    (kept,) = to_register(None, row, BY_OURS, named_anyway=anyway, again=True)
    assert kept.reference == kept.op_id
    account = MockAccount(url="http://127.0.0.1:1", notices_name_orders=True)
    assert account.narrowed(CAPABILITIES).references_indexed == frozenset()
    assert CAPABILITIES.references_indexed == OPENING


def test_order_drops_what_is_listed_unless_it_lives_on() -> None:
    row = authorized().row
    assert row is not None
    listed = tuple(known_by(row, INDEXED))
    assert to_drop(listed, ORIGIN, ORDER, row, INDEXED) == ()
    (dropped,) = to_drop(listed, ORIGIN, ORDER, None, INDEXED)
    assert (dropped.reference, dropped.order_id, dropped.origin_id) == ("psp-1", ORDER, ORIGIN)
    begun_anew = authorized(reference="psp-9").row
    assert to_drop(listed, ORIGIN, ORDER, begun_anew, INDEXED) == (dropped,)
    assert to_drop((), ORIGIN, ORDER, None, INDEXED) == ()
