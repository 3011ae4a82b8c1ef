"""Where a payment goes by an origin's rules: which rule, which route first, and why others are passed over."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_adapters.mock.spec import CAPABILITIES
from gateway_adapters.policy import validate
from gateway_adapters.routing import Misfit, PassedOver, first_by_weight, misfit_of, plan_for, routed
from schemas.identifiers import GatewayName, GatewayRoute, IdempotencyKey, OrderId, OriginId, PaymentId
from schemas.records.commands import Payer, PaymentRequested, PaymentToken, RefundRequested
from schemas.records.policies import AmountLimit, OriginPolicy, RoutingRule, WeightedRoute
from schemas.vocabulary import CallKind, DeclineClass, Rejection

A, B, C = GatewayRoute("a"), GatewayRoute("b"), GatewayRoute("c")
SHOP = OriginId("shop")
HERE = dict.fromkeys((A, B, C), CAPABILITIES)
PAYMENT = PaymentRequested(
    origin_id=SHOP,
    order_id=OrderId("1"),
    idempotency_key=IdempotencyKey("k"),
    amount_minor=5_000,
    currency="EUR",
    token=None,
    tokens=tuple(PaymentToken(gateway=GatewayName(each), kind="stored", value="tok") for each in "abc"),
    capture=True,
    payer=Payer(country="DE"),
)
ANY = RoutingRule(
    currencies=(),
    min_amount_minor=None,
    max_amount_minor=None,
    token_kinds=(),
    payer_countries=(),
    routes=(WeightedRoute(gateway=B, weight=1),),
)
POLICY = OriginPolicy(
    origin_id="shop", version=4, gateways=(A, B), fallback=True, max_attempts=3, limits=(), updated_at_ms=0
)


def weighted(**weights: int) -> tuple[WeightedRoute, ...]:
    return tuple(WeightedRoute(gateway=GatewayRoute(name), weight=weight) for name, weight in weights.items())


def ruled(*rules: RoutingRule, dry_run: bool = False) -> OriginPolicy:
    policy = replace(POLICY, rules=rules, dry_run=dry_run)
    validate(policy)
    return policy


@pytest.mark.parametrize(
    ("rule", "misfit"),
    [
        (ANY, None),
        (replace(ANY, currencies=("USD", "EUR")), None),
        (replace(ANY, currencies=("USD",)), Misfit.CURRENCY),
        (replace(ANY, min_amount_minor=5_000, max_amount_minor=5_000), None),
        (replace(ANY, min_amount_minor=5_001), Misfit.AMOUNT),
        (replace(ANY, max_amount_minor=4_999), Misfit.AMOUNT),
        (replace(ANY, token_kinds=("one_time", "stored")), None),
        (replace(ANY, token_kinds=("one_time",)), Misfit.KIND),
        (replace(ANY, payer_countries=("AT", "DE")), None),
        (replace(ANY, payer_countries=("AT",)), Misfit.PAYER_COUNTRY),
        (replace(ANY, currencies=("USD",), payer_countries=("AT",)), Misfit.CURRENCY),
    ],
)
def test_rule_fits_when_the_payment_meets_each_of_its_conditions(rule: RoutingRule, misfit: Misfit | None) -> None:
    assert misfit_of(rule, PAYMENT) is misfit


@pytest.mark.parametrize("payer", [None, Payer(email="anna@example.com")])
def test_rule_about_a_country_does_not_fit_a_payment_that_names_none(payer: Payer | None) -> None:
    assert misfit_of(replace(ANY, payer_countries=("DE",)), replace(PAYMENT, payer=payer)) is Misfit.PAYER_COUNTRY


def test_rule_about_kinds_of_tokens_does_not_fit_a_single_token_which_has_none() -> None:
    assert misfit_of(replace(ANY, token_kinds=("stored",)), replace(PAYMENT, token="tok", tokens=())) is (Misfit.KIND)


def test_first_rule_that_fits_says_the_routes_and_the_reasons_are_told() -> None:
    dollars = replace(ANY, currencies=("USD",))
    course = routed(ruled(dollars, replace(ANY, routes=weighted(c=1)), ANY), PAYMENT, HERE).course
    assert (course.rule, course.misfits, course.routes) == (2, (Misfit.CURRENCY,), (C,))
    assert course.plan.gateways == (C, C, C)


def test_policys_gateways_are_taken_when_no_rule_fits() -> None:
    course = routed(ruled(replace(ANY, currencies=("USD",))), PAYMENT, HERE).course
    assert (course.rule, course.misfits, course.routes) == (None, (Misfit.CURRENCY,), (A, B))


def test_payment_is_refused_when_the_rule_that_fits_names_only_what_cannot_take_it() -> None:
    course = routed(ruled(replace(ANY, routes=weighted(z=1)), ANY), PAYMENT, HERE).course
    assert (course.routes, course.plan.refusal) == ((), Rejection.NO_GATEWAY)
    assert course.passed_over == ((GatewayRoute("z"), PassedOver.NOT_SET_UP),)


def test_each_route_that_is_passed_over_is_told_with_its_reason() -> None:
    names = ("d", "e", "f", "g")
    here = {
        GatewayRoute("e"): replace(CAPABILITIES, operations=frozenset({CallKind.AUTHORIZE})),
        GatewayRoute("f"): replace(CAPABILITIES, currencies=frozenset({"USD"})),
        GatewayRoute("g"): CAPABILITIES,
        A: CAPABILITIES,
    }
    policy = replace(POLICY, gateways=(*map(GatewayRoute, names), A))
    course = routed(policy, PAYMENT, here).course
    whys = (PassedOver.NOT_SET_UP, PassedOver.OPERATION, PassedOver.CURRENCY, PassedOver.TOKEN)
    assert course.passed_over == tuple(zip(map(GatewayRoute, names), whys, strict=True))
    assert course.routes == (A,)


def test_routes_after_the_first_stay_in_the_rules_order() -> None:
    policy = ruled(replace(ANY, routes=weighted(a=0, b=0, c=1)))
    assert routed(policy, PAYMENT, HERE).course.routes == (C, A, B)


def test_route_without_a_weight_is_first_only_when_all_that_have_one_are_passed_over() -> None:
    policy = ruled(replace(ANY, routes=weighted(a=0, c=1)))
    assert routed(policy, PAYMENT, {A: CAPABILITIES}).course.routes == (A,)


def test_single_token_is_that_of_the_route_that_goes_first() -> None:
    policy = ruled(replace(ANY, routes=weighted(a=0, c=1)))
    course = routed(policy, replace(PAYMENT, token="tok", tokens=()), HERE).course
    assert (course.routes, course.passed_over) == ((C,), ((A, PassedOver.TOKEN),))


def test_limit_refuses_whatever_the_rules_say() -> None:
    policy = replace(ruled(ANY), limits=(AmountLimit(currency="EUR", max_amount_minor=1),))
    assert plan_for({"shop": policy}, PAYMENT, HERE).refusal is Rejection.LIMIT_EXCEEDED


def test_dry_run_routes_by_the_gateways_and_tells_what_the_rules_would_have_come_to() -> None:
    found = routed(ruled(replace(ANY, routes=weighted(c=1)), dry_run=True), PAYMENT, HERE)
    assert (found.plan.gateways, found.course.rule) == ((A, B, A), None)
    assert found.shadow is not None
    assert (found.shadow.plan.gateways, found.shadow.rule) == ((C, C, C), 1)
    assert routed(ruled(ANY), PAYMENT, HERE).shadow is None


def test_classes_of_declines_are_pinned_by_the_plan_only_where_it_names_another_route() -> None:
    classes = (DeclineClass.SOFT, DeclineClass.UNKNOWN)
    policy = {"shop": replace(POLICY, fallback_classes=classes)}
    assert plan_for(policy, PAYMENT, HERE).fallback_classes == classes
    assert plan_for(policy, replace(PAYMENT, token="tok", tokens=()), HERE).fallback_classes == ()


def test_capture_void_and_refund_ask_no_rule() -> None:
    refund = RefundRequested(
        origin_id=SHOP,
        order_id=OrderId("1"),
        idempotency_key=IdempotencyKey("k2"),
        payment_id=PaymentId("pay_x"),
        amount_minor=None,
        currency=None,
    )
    plan = plan_for({"shop": ruled(replace(ANY, currencies=("EUR",)))}, refund, {})
    assert (plan.gateways, plan.refusal) == ((A, B, A), None)


# Weights

ORDERS = [OrderId(f"order-{number}") for number in range(20_000)]
WEIGHTS = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "a/eu"]), st.integers(0, 10_000), min_size=1)


def first(routes: tuple[WeightedRoute, ...], order: OrderId) -> GatewayRoute | None:
    return first_by_weight(routes, origin_id=SHOP, order_id=order)


def test_each_route_gets_its_share_of_the_orders() -> None:
    counts = Counter(first(weighted(a=70, b=20, c=10, d=0), order) for order in ORDERS)
    shares = {route: count / len(ORDERS) for route, count in counts.items()}
    # 20,000 draws: five standard deviations of a share of 70 % are 0.016.
    assert shares == {
        A: pytest.approx(0.7, abs=0.016),
        B: pytest.approx(0.2, abs=0.015),
        C: pytest.approx(0.1, abs=0.011),
    }


def test_shares_of_one_origin_say_nothing_of_anothers() -> None:
    routes = weighted(a=1, b=1)
    alike = sum(
        first(routes, order) == first_by_weight(routes, origin_id=OriginId("other"), order_id=order) for order in ORDERS
    )
    assert alike / len(ORDERS) == pytest.approx(0.5, abs=0.018)


def test_only_the_share_that_is_lost_moves_when_weights_change() -> None:
    before, after = weighted(a=70, b=30), weighted(a=60, b=40)
    moved = [(first(before, order), first(after, order)) for order in ORDERS]
    assert {pair for pair in moved if pair[0] != pair[1]} == {(A, B)}, "no order leaves a route that has gained"
    assert sum(was != now for was, now in moved) / len(ORDERS) == pytest.approx(0.1, abs=0.011)


@given(weights=WEIGHTS, order=st.text(min_size=1, max_size=40), grows=st.data())
def test_order_keeps_its_route_when_that_gains_and_moves_only_to_what_gains(
    weights: dict[str, int], order: str, grows: st.DataObject
) -> None:
    routes = weighted(**weights)
    own = first(routes, OrderId(order))
    assert (own is None) == (not any(weights.values()))
    gaining = grows.draw(st.sampled_from(sorted(weights)))
    more = {**weights, gaining: weights[gaining] + grows.draw(st.integers(1, 10_000))}
    assert first(weighted(**more), OrderId(order)) in {own, GatewayRoute(gaining)}
    if own is not None:
        assert weights[own] > 0
        assert first(tuple(reversed(routes)), OrderId(order)) == own, "how the rule lists them does not matter"


def test_order_goes_the_same_way_for_ever() -> None:
    """The hash is promised in the docs: weights keep their meaning from release to release."""
    routes = weighted(a=1, b=1, c=1)
    assert [first(routes, OrderId(f"order-{number}")) for number in range(8)] == [C, C, A, A, B, B, C, C]


@given(
    gateways=st.lists(st.sampled_from([A, B, C]), unique=True, max_size=3),
    weights=st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.integers(0, 9)), unique_by=lambda each: each[0], max_size=3
    ),
    here=st.sets(st.sampled_from([A, B, C])),
    fallback=st.booleans(),
    dry_run=st.booleans(),
    max_attempts=st.integers(1, 10),
)
def test_plan_names_only_what_can_take_the_payment_and_never_one_route_twice_in_a_round(
    gateways: list[GatewayRoute],
    weights: list[tuple[GatewayRoute, int]],
    here: set[GatewayRoute],
    fallback: bool,
    dry_run: bool,
    max_attempts: int,
) -> None:
    rule = replace(ANY, routes=tuple(WeightedRoute(gateway=route, weight=weight) for route, weight in weights))
    rules = (rule,) if any(weight for _, weight in weights) else ()
    policy = replace(
        POLICY,
        gateways=tuple(gateways),
        rules=rules,
        fallback=fallback,
        dry_run=dry_run and bool(rules),
        max_attempts=max_attempts,
    )
    validate(policy)
    found = routed(policy, PAYMENT, dict.fromkeys(here, CAPABILITIES))
    for course, named in ((found.course, () if policy.dry_run else rules), (found.shadow, rules)):
        if course is None:
            continue
        wanted = [each.gateway for each in named[0].routes] if named else gateways
        assert set(course.routes) == set(wanted) & here
        assert {*course.routes, *dict(course.passed_over)} == set(wanted)
        assert len(course.plan.gateways) == (max_attempts if course.routes else 0)
        assert course.plan.refusal is (None if course.routes else Rejection.NO_GATEWAY)
        if fallback and len(course.routes) > 1:
            assert all(one != next_one for one, next_one in pairwise(course.plan.gateways))
        else:
            assert set(course.plan.gateways) == set(course.routes[:1])
