"""What only its gateway may know: the row keeps where it stands, the request says so, and both let go of it."""

from dataclasses import replace

import pytest

from schemas.identifiers import GatewayName
from schemas.records.commands import BrowserFacts, Command, NamedText, Payer, PaymentRequested, PaymentToken
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, OperationState, RetryAdvice
from streams.domain.limits import Rules
from streams.domain.outputs import CallGateway
from tests.support.order_desk import DECLINE, MOCK, SUCCESS, UNKNOWN, Desk, Said, authorize, plan, refusal, sale

PAYER = Payer(email="anna@example.com", ip="203.0.113.9", browser=BrowserFacts(user_agent="Mozilla/5.0"), country="ZQ")
TOKENS = (
    PaymentToken(gateway=MOCK, kind="stored", value="tok_of_mock", payer_reference="shopper-1"),
    PaymentToken(gateway=GatewayName("other"), kind="vault", value="vault-7"),
)


def payment(command: Command | None = None, **said: object) -> PaymentRequested:
    asked = command or sale()
    assert isinstance(asked, PaymentRequested)
    return replace(asked, **said)  # type: ignore[arg-type]  # each test names real fields


def requests_of(desk: Desk) -> list[GatewayCallRequested]:
    return [output.request for output in desk.said if isinstance(output, CallGateway)]


@pytest.mark.parametrize(
    "said",
    [
        {"payer": PAYER},
        {"token": None, "tokens": TOKENS},
        {"return_url": "https://shop.example/back"},
        {"metadata": (NamedText(name="cart", value="17"),)},
        {"statement_descriptor": "SHOP 17"},
        {"merchant_initiated": True},
        {"allow_partial": True},
    ],
    ids=lambda said: next(reversed(said)),
)
def test_request_says_where_its_command_stands_when_that_says_more_than_the_row_keeps(said: dict[str, object]) -> None:
    desk = Desk()
    desk.commands = 41
    op_id = desk.do(payment(None, **said))
    (request,) = requests_of(desk)
    assert (request.op_id, request.command_offset, request.details) == (op_id, 42, None)


def test_request_names_no_command_when_it_holds_all_itself() -> None:
    desk = Desk()
    desk.do(sale())
    (request,) = requests_of(desk)
    assert (request.token, request.command_offset) == ("tok_1", None)


def test_nothing_of_the_payer_stands_in_row_events_and_replies_at_any_time() -> None:
    desk = Desk()
    told = payment(authorize(), token=None, tokens=TOKENS, payer=PAYER, return_url="https://shop.example/back")
    op_id = desk.send(told)
    seen = [repr(desk.row)]
    desk.grant()
    seen.append(repr(desk.row))
    desk.call(UNKNOWN)
    seen.append(repr(desk.row))
    desk.fire(op_id)
    desk.settle()
    everything = "".join([*seen, repr(desk.row), repr(desk.said)])
    for secret in ("anna", "203.0.113.9", "Mozilla", "tok_of_mock", "vault-7", "shopper-1", "shop.example", "'ZQ'"):
        assert secret not in everything


def test_request_is_said_again_as_it_was_after_a_crash() -> None:
    desk = Desk()
    told = payment(payer=PAYER)
    desk.send(told)
    desk.grant()
    (first,) = requests_of(desk)
    desk.replay = True
    desk.commands = 0  # the same record, at the same place
    desk.send(told, command_id="c1")
    *_, again = requests_of(desk)
    assert again == replace(first, repeated=True)


def test_place_of_the_first_command_counts_when_the_same_is_asked_for_again() -> None:
    desk = Desk()
    desk.send(payment(payer=PAYER))
    desk.send(payment(payer=replace(PAYER, ip="2001:db8::1")))
    desk.settle()
    (request,) = requests_of(desk)
    assert request.command_offset == 1


def test_next_attempt_says_where_its_command_stands_too() -> None:
    desk = Desk(plan=plan("mock", "other"))
    desk.do(payment(token=None, tokens=TOKENS), refusal(RetryAdvice.OTHER_GATEWAY))
    assert [(request.gateway, request.command_offset) for request in requests_of(desk)] == [("mock", 1), ("other", 1)]


@pytest.mark.parametrize("answer", [DECLINE, SUCCESS], ids=["declined", "succeeded"])
def test_place_leaves_the_row_with_the_last_word(answer: Said) -> None:
    desk = Desk()
    op_id = desk.do(payment(payer=PAYER), answer)
    assert (desk.operation(op_id).command_offset, desk.operation(op_id).token) == (None, None)


def test_place_stays_in_doubt_for_as_long_as_the_same_call_can_be_made_again() -> None:
    windows = {MOCK: {CallKind.SALE: None}}
    for known, there in ((windows, True), ({}, False)):
        desk = Desk(rules=replace(Rules(order_life_ms=1, claim_life_ms=1, key_windows_ms=known)))
        op_id = desk.do(payment(token=None, tokens=TOKENS), UNKNOWN)
        assert desk.state(op_id) is OperationState.UNKNOWN
        assert (desk.operation(op_id).command_offset is not None) is there


def test_inquiry_needs_no_command() -> None:
    desk = Desk()
    op_id = desk.do(payment(payer=PAYER), UNKNOWN)
    desk.fire(op_id)
    *_, inquiry = requests_of(desk)
    assert (inquiry.kind, inquiry.command_offset) == (CallKind.INQUIRE, None)


def test_route_plan_is_asked_for_with_the_command_and_the_row_keeps_the_plan_alone() -> None:
    desk = Desk()
    command = payment(token=None, tokens=TOKENS, payer=PAYER)
    desk.send(command)
    assert desk.planned == [command]
    assert "tok_of_mock" not in repr(desk.row)
    assert "'ZQ'" not in repr(desk.row)


def test_route_plan_of_a_payment_that_an_earlier_release_queued_knows_the_gateways_of_its_tokens() -> None:
    desk = Desk()
    desk.send(sale(key="1"))
    second = desk.send(payment(sale(key="2"), token=None, tokens=TOKENS))
    assert desk.row is not None
    known = [replace(each, plan=None) if each.op_id == second else each for each in desk.row.operations]
    desk.row = replace(desk.row, operations=tuple(known))
    desk.settle()
    planned = desk.planned[-1]
    assert isinstance(planned, PaymentRequested)
    assert (planned.token, [token.gateway for token in planned.tokens]) == (None, ["mock", "other"])
    assert "tok_of_mock" not in repr(planned)
