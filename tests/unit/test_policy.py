from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.errors import DECLINES, Code, decline_for
from gateway_adapters.mock.spec import CAPABILITIES
from gateway_adapters.policy import (
    ANY_ORIGIN,
    MAX_RULES,
    REFUSE_ALL,
    default_policy,
    may_help_elsewhere,
    policy_for,
    validate,
)
from gateway_adapters.routing import plan_for
from schemas.identifiers import GatewayName, GatewayRoute, IdempotencyKey, OrderId, OriginId, PaymentId
from schemas.misconfigured import MisconfiguredError
from schemas.records.commands import PaymentRequested, PaymentToken, RefundRequested
from schemas.records.policies import AmountLimit, OriginPolicy, RoutingRule, WeightedRoute
from schemas.vocabulary import CallKind, DeclineClass, Rejection

A, B, C = GatewayRoute("a"), GatewayRoute("b"), GatewayRoute("c")


PAYMENT = PaymentRequested(
    origin_id=OriginId("shop"),
    order_id=OrderId("1"),
    idempotency_key=IdempotencyKey("k"),
    amount_minor=5_000,
    currency="EUR",
    token="tok_visa",
    capture=True,
)
REFUND = RefundRequested(
    origin_id=OriginId("shop"),
    order_id=OrderId("1"),
    idempotency_key=IdempotencyKey("k2"),
    payment_id=PaymentId("pay_x"),
    amount_minor=None,
    currency=None,
)
POLICY = OriginPolicy(
    origin_id="shop", version=4, gateways=(A, B), fallback=True, max_attempts=3, limits=(), updated_at_ms=0
)
RULE = RoutingRule(
    currencies=("EUR",),
    min_amount_minor=1,
    max_amount_minor=10_000,
    token_kinds=("stored",),
    payer_countries=("DE", "AT"),
    routes=(WeightedRoute(gateway=A, weight=7), WeightedRoute(gateway=B, weight=0)),
)
SOFT, FRAUD = DeclineClass.SOFT, DeclineClass.FRAUD
KNOWN = frozenset({GatewayName("a"), GatewayName("b"), *(GatewayName(str(n)) for n in range(11))})
BOTH = {A: CAPABILITIES, B: CAPABILITIES}


def with_rule(**fields: object) -> OriginPolicy:
    """A policy whose first rule can work, and whose second is like it but for these fields."""
    return replace(POLICY, rules=(RULE, replace(RULE, **fields)))  # type: ignore[arg-type]  # a test names any field


def with_tokens(*gateways: str) -> PaymentRequested:
    tokens = tuple(PaymentToken(gateway=GatewayName(each), kind="stored", value=f"tok_{each}") for each in gateways)
    return replace(PAYMENT, token=None, tokens=tokens)


def test_plan_is_the_attempts_in_order_and_begins_again_when_there_are_more_attempts_than_gateways() -> None:
    plan = plan_for({"shop": POLICY}, with_tokens("b", "a"), BOTH)
    assert (plan.policy_version, plan.gateways, plan.refusal) == (4, (A, B, A), None)


def test_plan_stays_with_the_first_gateway_when_there_is_no_fallback() -> None:
    assert plan_for({"shop": replace(POLICY, fallback=False)}, PAYMENT, BOTH).gateways == (A, A, A)


def test_plan_stays_with_the_first_gateway_when_there_is_one_token_that_no_other_would_know() -> None:
    assert plan_for({"shop": POLICY}, PAYMENT, BOTH).gateways == (A, A, A)
    assert plan_for({"shop": POLICY}, PAYMENT, {B: CAPABILITIES}).gateways == (B, B, B)


def test_gateway_is_passed_over_when_the_payment_has_no_token_for_it() -> None:
    assert plan_for({"shop": POLICY}, with_tokens("b"), BOTH).gateways == (B, B, B)
    assert plan_for({"shop": POLICY}, with_tokens("b", "z"), BOTH).gateways == (B, B, B)
    refused = plan_for({"shop": POLICY}, with_tokens("z"), BOTH)
    assert (refused.gateways, refused.refusal) == ((), Rejection.NO_GATEWAY)


def test_token_is_good_for_each_account_of_its_gateway_when_it_names_none() -> None:
    eu, us = GatewayRoute("a/eu"), GatewayRoute("a/us")
    policy = {"shop": replace(POLICY, gateways=(eu, us, B))}
    here = {eu: CAPABILITIES, us: CAPABILITIES, B: CAPABILITIES}
    assert plan_for(policy, with_tokens("a"), here).gateways == (eu, us, eu)
    assert plan_for(policy, PAYMENT, here).gateways == (eu, us, eu)
    assert plan_for(policy, with_tokens("a/us", "b"), here).gateways == (us, B, us)


def test_origin_without_a_policy_follows_the_one_for_all() -> None:
    for_all = replace(POLICY, origin_id=ANY_ORIGIN, version=9)
    assert plan_for({ANY_ORIGIN: for_all}, PAYMENT, BOTH).policy_version == 9
    assert policy_for({ANY_ORIGIN: for_all, "shop": POLICY}, OriginId("shop")) is POLICY


def test_payment_is_refused_when_there_is_no_policy_at_all() -> None:
    plan = plan_for({}, PAYMENT, BOTH)
    assert (plan.gateways, plan.refusal) == ((), Rejection.NO_GATEWAY)


def test_gateway_is_passed_over_when_it_is_not_here_or_not_able() -> None:
    no_euro = replace(CAPABILITIES, currencies=frozenset({"USD"}))
    no_sale = replace(CAPABILITIES, operations=frozenset({CallKind.AUTHORIZE}))
    assert plan_for({"shop": POLICY}, PAYMENT, {B: CAPABILITIES}).gateways == (B, B, B)
    assert plan_for({"shop": POLICY}, PAYMENT, {A: no_euro, B: CAPABILITIES}).gateways == (B, B, B)
    assert plan_for({"shop": POLICY}, PAYMENT, {A: no_sale, B: CAPABILITIES}).gateways == (B, B, B)


def test_accounts_at_one_gateway_are_planned_one_after_the_other_and_those_not_set_up_passed_over() -> None:
    eu, us = GatewayRoute("a/eu"), GatewayRoute("a/us")
    policy = replace(POLICY, gateways=(us, A, eu))
    validate(policy, known=KNOWN)
    assert plan_for({"shop": policy}, PAYMENT, {A: CAPABILITIES, eu: CAPABILITIES}).gateways == (A, eu, A)


def test_account_that_does_not_take_the_currency_is_passed_over() -> None:
    eu = GatewayRoute("a/eu")
    policy = replace(POLICY, gateways=(eu, A))
    only_dollars = replace(CAPABILITIES, currencies=frozenset({"USD"}))
    assert plan_for({"shop": policy}, PAYMENT, {A: CAPABILITIES, eu: only_dollars}).gateways == (A, A, A)


@pytest.mark.parametrize(
    ("route", "told"),
    [("a/default", "is written 'a'"), ("a/", "1 to 32"), ("a/EU", "lower-case"), ("a/b/c", "lower-case")],
)
def test_account_is_refused_when_its_name_is_none_or_has_a_second_spelling(route: str, told: str) -> None:
    with pytest.raises(MisconfiguredError, match=told):
        validate(replace(POLICY, gateways=(GatewayRoute(route),)), known=KNOWN)


def test_payment_is_refused_when_no_gateway_is_left() -> None:
    plan = plan_for({"shop": POLICY}, PAYMENT, {})
    assert (plan.gateways, plan.refusal) == ((), Rejection.NO_GATEWAY)
    assert plan_for({ANY_ORIGIN: default_policy(())}, PAYMENT, BOTH).refusal is Rejection.NO_GATEWAY


@pytest.mark.parametrize(
    ("limit_minor", "currency", "refusal"),
    [(4_999, "EUR", Rejection.LIMIT_EXCEEDED), (5_000, "EUR", None), (1, "USD", None)],
)
def test_payment_above_its_currencys_limit_is_refused(
    limit_minor: int, currency: str, refusal: Rejection | None
) -> None:
    limited = replace(POLICY, limits=(AmountLimit(currency=currency, max_amount_minor=limit_minor),))
    assert plan_for({"shop": limited}, PAYMENT, BOTH).refusal is refusal


def test_refund_is_never_refused_by_a_policy() -> None:
    limited = replace(POLICY, limits=(AmountLimit(currency="EUR", max_amount_minor=1),))
    for policy in (limited, replace(POLICY, gateways=())):
        assert plan_for({"shop": policy}, REFUND, {}).refusal is None


@given(
    gateways=st.lists(st.sampled_from([A, B, C]), unique=True, max_size=3),
    fallback=st.booleans(),
    max_attempts=st.integers(1, 10),
)
def test_plan_holds_as_many_attempts_as_the_policy_and_only_its_gateways(
    gateways: list[GatewayRoute], fallback: bool, max_attempts: int
) -> None:
    policy = replace(POLICY, gateways=tuple(gateways), fallback=fallback, max_attempts=max_attempts)
    validate(policy)
    plan = plan_for({"shop": policy}, with_tokens("a", "b", "c"), {**BOTH, C: CAPABILITIES})
    assert len(plan.gateways) == (max_attempts if gateways else 0)
    assert set(plan.gateways) <= set(gateways)
    assert plan.gateways[:1] == tuple(gateways[:1])


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (replace(POLICY, origin_id=""), "origin_id"),
        (replace(POLICY, origin_id="a|b"), "origin_id"),
        (replace(POLICY, version=-1), "version"),
        (replace(POLICY, max_attempts=0), "max_attempts"),
        (replace(POLICY, max_attempts=11), "max_attempts"),
        (replace(POLICY, gateways=(A, A)), "repeat"),
        (replace(POLICY, gateways=tuple(GatewayRoute(str(n)) for n in range(11))), "at most"),
        (replace(POLICY, limits=(AmountLimit(currency="eur", max_amount_minor=1),)), "ISO 4217"),
        (replace(POLICY, limits=(AmountLimit(currency="EUR", max_amount_minor=0),)), "positive"),
        (replace(POLICY, limits=(AmountLimit(currency="EUR", max_amount_minor=1),) * 2), "repeat a currency"),
        (replace(POLICY, limits=(AmountLimit(currency="EUR", max_amount_minor=1),) * 201), "at most"),
        (replace(POLICY, gateways=(A, GatewayRoute("z"))), "names z"),
        (replace(POLICY, fallback_classes=(SOFT, SOFT)), "fallback_classes must not repeat"),
        (replace(POLICY, fallback_classes=(SOFT,), fallback=False), "needs fallback"),
        (replace(POLICY, fallback_classes=(SOFT, FRAUD)), "must not hold fraud"),
        (replace(POLICY, dry_run=True), "needs some"),
        (replace(POLICY, rules=(RULE,) * (MAX_RULES + 1)), "rules must be at most"),
        (with_rule(currencies=("eur",)), "rule 2: currencies must be ISO 4217"),
        (with_rule(currencies=("EUR", "EUR")), "rule 2: currencies must not repeat"),
        (with_rule(payer_countries=("DEU",)), "rule 2: payer_countries must be ISO 3166-1"),
        (with_rule(payer_countries=("DE",) * 251), "rule 2: payer_countries must be at most"),
        (with_rule(token_kinds=("",)), "rule 2: token_kinds must be visible ASCII"),
        (with_rule(currencies=()), "rule 2: amounts need currencies"),
        (with_rule(min_amount_minor=0), "rule 2: amounts must be minor units"),
        (with_rule(min_amount_minor=10_001), "rule 2: min_amount_minor must not be above"),
        (with_rule(routes=()), "rule 2: routes must name a gateway"),
        (with_rule(routes=(WeightedRoute(gateway=A, weight=1),) * 2), "rule 2: routes must not repeat"),
        (with_rule(routes=(WeightedRoute(gateway=GatewayRoute("z"), weight=1),)), "rule 2: routes names z"),
        (with_rule(routes=(WeightedRoute(gateway=GatewayRoute("a/EU"), weight=1),)), "rule 2: routes: 'a/EU'"),
        (with_rule(routes=(WeightedRoute(gateway=A, weight=-1),)), "rule 2: each weight must be 0 to"),
        (with_rule(routes=(WeightedRoute(gateway=A, weight=0),)), "rule 2: one weight at least"),
    ],
)
def test_policy_that_cannot_work_is_refused_with_its_reason(policy: OriginPolicy, why: str) -> None:
    with pytest.raises(MisconfiguredError, match=why):
        validate(policy, known=KNOWN)


def test_policy_that_can_work_is_taken() -> None:
    validate(POLICY)
    validate(replace(POLICY, origin_id=ANY_ORIGIN), known=KNOWN)
    validate(REFUSE_ALL)
    validate(with_rule(min_amount_minor=None, max_amount_minor=None, currencies=()), known=KNOWN)
    validate(replace(with_rule(), dry_run=True, fallback_classes=(SOFT, DeclineClass.UNKNOWN)), known=KNOWN)


HELPFUL = {
    Code.CARD_DECLINED,
    Code.DO_NOT_HONOR,
    Code.INSUFFICIENT_FUNDS,
    Code.LIMIT_EXCEEDED,
    Code.EXPIRED_CARD,
    Code.INCORRECT_CVC,
    Code.INVALID_ACCOUNT,
    Code.AUTHENTICATION_REQUIRED,
    Code.PROCESSING_ERROR,
    Code.ISSUER_UNAVAILABLE,
    Code.NOT_SUPPORTED,
    Code.PIN_REQUIRED,
    Code.UNKNOWN,
}
"""After all others no gateway is asked, whatever the policy says. A new code is in one of the two on purpose."""


@pytest.mark.parametrize("code", DECLINES)
def test_decline_sends_a_payment_elsewhere_only_when_it_says_that_nothing_is_held_and_its_class_is_named(
    code: Code,
) -> None:
    error = decline_for(code, gateway_code="x")
    own = error.decline_class
    assert own is not None
    assert may_help_elsewhere(error, tuple(DeclineClass)) is (code in HELPFUL)
    assert may_help_elsewhere(error, (own,)) is (code in HELPFUL)
    assert not may_help_elsewhere(error, set(DeclineClass) - {own})
    assert not may_help_elsewhere(replace(error, decline_class=None), tuple(DeclineClass))
    assert not may_help_elsewhere(None, tuple(DeclineClass))
