"""The parts of a fault run with four gateways: policies, tokens, settings, books, weather, and what checks catch."""

import dataclasses
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web

from gateway_adapters import policy
from gateway_adapters.errors import Code, UnauthenticError, decline_for
from gateway_adapters.paypal.signature import LIVE
from gateway_adapters.registry import GATEWAYS
from schemas.identifiers import AccountName, GatewayName, GatewayRoute
from schemas.records.claims import RoutePlan
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import CallKind, DeclineClass, Outcome
from streams.settings import load
from tests.faults.ingress import HOSTS_VARIABLE, LoopbackCertificates
from tests.faults.kinds import FAULTS
from tests.faults.kinds.peers import AT_PEERS, EACH_ONCE, OF_FOUR
from tests.faults.peers import PEERS, Peers
from tests.faults.policies import GENERATIONS, ROUTES, SWAPS, generation
from tests.faults.run import ORIGINS, effects_by_account
from tests.faults.world import HABITS
from tests.simulators.book import Book
from tests.simulators.paypal_process import CERTIFICATE_PATH, CERTIFICATE_URL
from tests.simulators.weather import BETWEEN_WORDS_S, Post, Rule, Weather
from tests.support.clerks import VERDICTS, Clerk
from tests.support.exhibits import GatewayStand
from tests.support.gateway_calls import request_of
from tests.support.gateway_under_test import Situation
from tests.support.means import KINDS, mock_token_of, with_tokens
from tests.support.peer_books import NOBODYS, PeerBook
from tests.support.route_checks import Moves, later_elsewhere, moved_after_intent, unused
from tests.support.second_account import SECOND, SECRET_VARIABLE, second_account
from tests.support.workload import Answer, Client, History

# Policies


def test_every_generation_can_work_and_all_accounts_are_in_some() -> None:
    named: set[str] = set()
    for each in GENERATIONS:
        policy.validate(each, known=frozenset(GATEWAYS))
        named |= {*each.gateways, *(route.gateway for rule in each.rules for route in rule.routes)}
    assert named == set(ROUTES)
    assert {each.route for each in PEERS} < set(ROUTES)


def test_each_origin_sees_each_generation_and_no_two_the_same_at_once() -> None:
    assert len(ORIGINS) * len(GENERATIONS) <= SWAPS
    swaps = [generation(number, ORIGINS) for number in range(SWAPS)]
    for origin in ORIGINS:
        own = [dataclasses.replace(each, origin_id="*") for each in swaps if each.origin_id == origin]
        assert all(each in own for each in GENERATIONS)
    at_once = [dataclasses.replace(each, origin_id="*") for each in swaps[: len(ORIGINS)]]
    assert all(at_once.count(each) == 1 for each in at_once)


# Tokens


@pytest.mark.parametrize("payer_acts", [False, True])
def test_payment_has_a_token_for_each_gateway_and_the_mocks_own(payer_acts: bool) -> None:
    body = {"orderId": "o", "token": "tok_mock_cut"}
    made = with_tokens(body, random.Random(1), payer_acts=payer_acts)
    assert made == with_tokens(body, random.Random(1), payer_acts=payer_acts)
    assert {each["gateway"] for each in made["tokens"]} == {"mock", *KINDS}
    assert "token" not in made
    assert mock_token_of(made) == mock_token_of(body) == "tok_mock_cut"


def test_tokens_of_a_payment_that_names_some_already_stay() -> None:
    elsewhere = {"gateway": "elsewhere", "kind": "vault", "value": "vault-7"}
    stored = {"gateway": "mock", "kind": "stored", "value": "tok_1"}
    made = with_tokens({"tokens": [elsewhere, stored]}, random.Random(1), payer_acts=False)
    assert made["tokens"][:2] == [elsewhere, stored]
    assert len(made["tokens"]) == 2 + len(KINDS)


# The world


def test_engine_reads_the_accounts_that_the_simulators_were_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in os.environ if each.startswith("PAYMENT_ENGINE_")]:
        monkeypatch.delenv(name)
    second = second_account(tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:2/webhooks/mock/second")
    peers = Peers(tmp_path, mock_url="http://127.0.0.1:1")
    said = {**second.environment, **peers.environment(), "PAYMENT_ENGINE_GATEWAY_MOCK_URL": "http://127.0.0.1:1"}
    assert SECRET_VARIABLE in said
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    accounts = load().accounts
    for gateway in ("stripe", "adyen", "paypal"):
        assert accounts[GatewayName(gateway)] == peers.accounts[GatewayName(gateway)]
    both = {AccountName("default"), AccountName(SECOND)}
    assert accounts[GatewayName("mock")].keys() == peers.accounts[GatewayName("mock")].keys() == both


def test_bag_of_four_gateways_has_each_gateways_bad_days_and_its_executors_end() -> None:
    names = [fault.name for fault in OF_FOUR]
    assert names.count("kill-executor") == 2
    for gateway in ("stripe", "stripe-second", "adyen", "paypal"):
        # Stripe alone keeps failures under its keys.
        wanted = {each for each in EACH_ONCE if gateway.startswith("stripe") or not each.startswith("stored")}
        assert {f"{gateway}-{each}" for each in wanted} <= set(names)
    at_mock = {name.removeprefix("gateway-") for name in names if name.startswith("gateway-")}
    assert at_mock >= EACH_ONCE - {"webhooks-twice"}
    assert "duplicate_webhooks" in at_mock
    assert len({fault.name for fault in (*FAULTS, *AT_PEERS)}) == len(FAULTS) + len(AT_PEERS)


@asynccontextmanager
async def paypals_hosts(pem: bytes) -> AsyncIterator[str]:
    async def certificate(_: web.Request) -> web.Response:
        return web.Response(body=pem)

    app = web.Application()
    app.router.add_get(CERTIFICATE_PATH, certificate)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


async def test_ingress_of_the_run_fetches_what_stands_at_paypals_hosts_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pem = b"-----BEGIN CERTIFICATE-----"
    async with paypals_hosts(pem) as url:
        monkeypatch.setenv(HOSTS_VARIABLE, url)
        certificates = LoopbackCertificates(monotonic_s=lambda: 0.0)
        try:
            assert await certificates.fetch(CERTIFICATE_URL, hosts=LIVE.hosts) == pem
            with pytest.raises(UnauthenticError):
                await certificates.fetch(f"{url}{CERTIFICATE_PATH}", hosts=LIVE.hosts)
        finally:
            await certificates.close()


@pytest.mark.parametrize(("gateway", "settles"), [("mock", True), ("stripe", False)])
def test_operators_settle_what_waits_where_the_books_tell_when_it_was_told(gateway: str, settles: bool) -> None:
    history = History()
    operation = {"id": "op_1", "state": "pending", "kind": "capture", "gateway": gateway}
    body = {"id": "pay_1", "overlays": [], "operation": operation}
    request = history.new(origin_id="o", order_id="1", key="k", path="/payments", body={})
    request.answers.append(Answer(status=202, body=body, replayed=False, seconds=0.0))
    clerks = [
        Clerk(
            cast("Client", None),
            history,
            seed=seed,
            name="anna",
            run="r",
            habits=HABITS,
            settles_at=frozenset({"mock", "adyen"}),
        )
        for seed in range(50)
    ]
    rulings = [clerk._chosen() for clerk in clerks]
    assert {ruling.body["outcome"] for ruling in rulings if ruling is not None} >= {"note"}
    assert any(ruling is not None and ruling.body["outcome"] in VERDICTS for ruling in rulings) is settles


# Books


def written(path: Path) -> Book:
    book = Book(path)
    for kind, amount, op_id in (("sale", 100, "op_1"), ("refund", 40, "op_2"), ("sale", 7, "op_9")):
        opening = "op_9" if op_id == "op_9" else "op_1"
        book.effect(
            kind, amount, currency="usd", op_id=op_id, opening_op_id=opening, gateway_key=f"{op_id}-1", token="tok"
        )
    book.commit()
    return book


def test_effects_are_read_as_those_of_the_commands_that_opened_their_payments(tmp_path: Path) -> None:
    written(tmp_path / "book").close()
    book = PeerBook(gateway="adyen", path=tmp_path / "book")
    found = book.entries({"op_1": ("originA", "order-1")})
    assert [(each.kind, each.amount_minor, each.op_id, each.origin_id, each.order_id) for each in found] == [
        ("sale", 100, "op_1", "originA", "order-1"),
        ("refund", 40, "op_2", "originA", "order-1"),
        ("sale", 7, "op_9", *NOBODYS),
    ]
    assert {(each.route, each.currency) for each in found} == {("adyen", "USD")}
    assert effects_by_account(found) == {"adyen": {"sale": 107, "refund": 40}}


def test_last_word_of_an_operation_is_read_with_its_date(tmp_path: Path) -> None:
    book = Book(tmp_path / "book")
    book.word("op_1", 100, at_s=7)
    book.word("op_1", 0, at_s=9)
    book.commit()
    assert PeerBook(gateway="adyen", path=tmp_path / "book").stands() == {
        "op_1": GatewayStand(counted_minor=0, said_at_ms=9_000)
    }
    book.close()


def test_what_was_not_committed_is_not_there_and_numbers_go_on(tmp_path: Path) -> None:
    book = written(tmp_path / "book")
    first = book.next_number()
    book.commit()
    book.keep("object", {"a": 1})
    book.close()
    again = Book(tmp_path / "book")
    assert again.kept() == {}
    assert again.next_number() == first + 1
    again.close()


def test_book_owes_what_nobody_has_taken_and_tells_what_was_refused(tmp_path: Path) -> None:
    book = written(tmp_path / "book")
    for _ in range(3):
        book.tell(b"{}", {"a": "b"}, due_ms=5)
    book.complain("a parameter that is none")
    book.commit()
    due = book.due(5, most=10)
    assert [(each.body, each.headers, each.attempts) for each in due] == [(b"{}", {"a": "b"}, 0)] * 3
    assert book.due(4, most=10) == []
    read = PeerBook(gateway="paypal", path=tmp_path / "book")
    for each, status in zip(due, (200, 503, 401), strict=True):
        book.delivered(each.seq, status, again_ms=9)
    assert read.owed() == 2
    assert len(book.due(9, most=10)) == 2
    assert read.faults() == [
        "paypal/default would not take a request: a parameter that is none",
        "paypal/default: 1 webhooks are answered 401",
    ]
    book.close()


# Weather


def test_call_meets_what_a_rule_says_if_it_can_happen_to_it() -> None:
    weather = Weather()
    weather.rules.append(Rule(situation=Situation.SLOW, probability=1.0, chance=random.Random(1)))
    assert weather.met_by_call({Situation.SLOW}) is Situation.SLOW
    assert weather.met_by_call({Situation.CUT_AFTER}) is None
    weather.rules[0].probability = 0.0
    assert weather.met_by_call({Situation.SLOW}) is None
    weather.clear()
    assert weather.rules == []


def test_webhooks_come_as_the_weather_is() -> None:
    weather = Weather()
    weather.post = Post(delay_s=(2.0, 2.0), twice=1.0)
    first, second = weather.delays_s(0)
    assert first == 2.0 <= second
    assert weather.delays_s(2)[0] == 2.0 + 2 * BETWEEN_WORDS_S
    weather.clear()
    assert len(weather.delays_s(0)) == 1


# Ways

PLAN = RoutePlan(
    policy_version=1,
    gateways=(GatewayRoute("stripe"), GatewayRoute(f"stripe/{SECOND}"), GatewayRoute("adyen")),
    refusal=None,
    fallback_classes=(DeclineClass.SOFT,),
)


def call(number: int, attempt: int, **fields: object) -> GatewayCallRequested:
    """The call of this number of one payment; its attempt goes as the plan says unless a field says otherwise."""
    first = request_of(1)
    gateway, _, account = PLAN.gateways[attempt - 1].partition("/")
    own = {"attempt": attempt, "call_number": number, "gateway": gateway, "account": account or "default"}
    return dataclasses.replace(first, **{**own, **fields})  # type: ignore[arg-type]  # any field


def answered(
    asked: GatewayCallRequested, outcome: Outcome, code: Code | None = None, *, sole: bool = True
) -> GatewayCallCompleted:
    return GatewayCallCompleted(
        origin_id=asked.origin_id,
        order_id=asked.order_id,
        op_id=asked.op_id,
        kind=asked.kind,
        attempt=asked.attempt,
        call_number=asked.call_number,
        gateway=asked.gateway,
        outcome=outcome,
        gateway_reference=None,
        confirmed_amount_minor=None,
        confirmed_currency=None,
        action_url=None,
        error=None if code is None else decline_for(code, gateway_code=None),
        raw=None,
        completed_at_ms=0,
        sole=sole,
    )


def moves(*calls: GatewayCallRequested, answers: tuple[GatewayCallCompleted, ...] = ()) -> Moves:
    found = Moves()
    for each in calls:
        found.asked.setdefault(each.op_id, {})[each.call_number] = each
        found.plans[each.op_id] = PLAN
    for answer, asked in zip(answers, calls, strict=False):
        found.answers[asked.op_id, asked.call_number] = answer
    return found


@pytest.mark.parametrize(
    ("outcome", "code", "faults"),
    [
        (Outcome.NOT_EXECUTED, None, 0),
        (Outcome.DECLINED, Code.INSUFFICIENT_FUNDS, 0),
        (Outcome.DECLINED, Code.EXPIRED_CARD, 1),
        (Outcome.UNKNOWN, None, 1),
        (Outcome.PENDING, None, 1),
    ],
)
def test_payment_may_go_on_only_after_what_allows_it(outcome: Outcome, code: Code | None, faults: int) -> None:
    first, second = call(1, 1), call(2, 2)
    found = moves(first, second, answers=(answered(first, outcome, code),))
    assert len(moved_after_intent(found)) == faults


def test_payment_may_not_go_on_after_a_decline_beside_which_another_copy_may_hold_money() -> None:
    first, second = call(1, 1), call(2, 2)
    one_of_two = answered(first, Outcome.DECLINED, Code.INSUFFICIENT_FUNDS, sole=False)
    assert len(moved_after_intent(moves(first, second, answers=(one_of_two,)))) == 1


def test_payment_may_go_on_after_an_inquiry_that_proves_that_nothing_was_done() -> None:
    first, look, second = call(1, 1), call(2, 1, kind=CallKind.INQUIRE), call(3, 2)
    lost, proof = answered(first, Outcome.UNKNOWN), answered(look, Outcome.NOT_EXECUTED)
    assert moved_after_intent(moves(first, look, second, answers=(lost, proof))) == []


def test_call_elsewhere_than_planned_or_without_a_plan_is_caught() -> None:
    strayed = moves(call(1, 1, gateway="paypal"))
    assert len(moved_after_intent(strayed)) == 1
    assert len(moved_after_intent(moves(call(1, 1, account=SECOND)))) == 1
    strayed.plans.clear()
    assert len(moved_after_intent(strayed)) == 1


def test_later_call_elsewhere_than_its_payment_is_caught() -> None:
    refund = call(1, 3, kind=CallKind.REFUND)
    assert len(later_elsewhere(moves(refund), [])) == 1


def test_run_whose_payments_went_to_one_account_proves_nothing() -> None:
    first, second = call(1, 1), call(2, 2)
    lonely = moves(first)
    assert unused(lonely, ["stripe", "adyen"], swaps=2) == [
        "no payment went to adyen first",
        "payments were planned by 1 policies, and 2 were in force",
        "no payment went on to another gateway",
    ]
    assert unused(moves(first, second), ["stripe"], swaps=1) == []
