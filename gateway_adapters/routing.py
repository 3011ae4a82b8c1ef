"""Where a payment goes: an origin's policy and a command come to a route plan, and to the reasons for it. Pure.

`routed` is called by the orders agent when it takes a command, and by `payment-engine policy explain`. The claim pins
the plan, and nothing reads the policy again for that operation (DESIGN.md, 'Idempotency across partitions').

1. The first of the policy's rules that fits the payment says its routes; when none fits, the policy's `gateways` do.
   A rule that fits decides: where none of its routes can take the payment, it is refused.
2. Routes that cannot take it are passed over: an account that is not set up here, or lacks the operation or the
   currency, or that the payment brings no token for.
3. Of a rule's routes one goes first by weight (`first_by_weight`). The others follow in the rule's order.
4. The plan is a schedule: attempt n goes to its n-th route, and after the last entry there is no other attempt:

   * routes (a, b), no fallback, 3 attempts → (a, a, a)
   * routes (a, b), fallback, 3 attempts, a token for each → (a, b, a)
   * routes (a, b), fallback, 3 attempts, one token → (a, a, a): it is a's, and means nothing to b
   * routes (a, a/eu), fallback, 2 attempts → (a, a/eu): two accounts at one gateway

In a dry run (`dry_run`) step 1 takes the policy's `gateways`, and what the rules would have come to stands beside it.

A capture, void or refund goes to the gateway that holds its payment, whatever the policy says today. Its plan only
says how many attempts there are, and is never a refusal: a payment that was taken can be given back.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from itertools import cycle, islice
from typing import Final

from gateway_adapters.contract import Capabilities
from gateway_adapters.policy import policy_for
from schemas.identifiers import GatewayRoute, OrderId, OriginId, parts_of
from schemas.quick_init import quick_init
from schemas.records.claims import RoutePlan
from schemas.records.commands import Command, PaymentRequested, kind_of
from schemas.records.policies import OriginPolicy, RoutingRule, WeightedRoute
from schemas.vocabulary import CallKind, Rejection

_HASH_BITS: Final = 52
"""A float holds half of a step more than such a number exactly: so no hash comes to 0 or to 1."""


class Misfit(StrEnum):
    """The first condition of a rule that a payment does not meet."""

    CURRENCY = "currency"
    AMOUNT = "amount"
    KIND = "token kind"
    PAYER_COUNTRY = "payer's country"


class PassedOver(StrEnum):
    """Why a route cannot take a payment."""

    NOT_SET_UP = "the account is not set up here"
    OPERATION = "it has no such operation"
    CURRENCY = "it does not take the currency"
    TOKEN = "the payment brings no token for it"  # noqa: S105 - a reason


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Where a payment may go, and why so."""

    rule: int | None  # from 1: the rule that says the routes; None: the policy's gateways do
    misfits: tuple[Misfit, ...]  # of the rules before it, or of all
    routes: tuple[GatewayRoute, ...]  # in order; empty: the payment is refused
    passed_over: tuple[tuple[GatewayRoute, PassedOver], ...]
    plan: RoutePlan


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """What came of a policy and a payment."""

    course: Course
    shadow: Course | None  # of a dry run: what the rules would have come to

    @property
    def plan(self) -> RoutePlan:
        """The plan that the claim is to pin."""
        return self.course.plan


def plan_for(
    policies: Mapping[str, OriginPolicy], command: Command, supported: Mapping[GatewayRoute, Capabilities]
) -> RoutePlan:
    """Return the route plan of this command under these policies: as `routed`, without the reasons."""
    policy = policy_for(policies, command.origin_id)
    if not isinstance(command, PaymentRequested):
        return _plan(policy, policy.gateways, refusal=None)
    return routed(policy, command, supported).plan


def routed(policy: OriginPolicy, payment: PaymentRequested, supported: Mapping[GatewayRoute, Capabilities]) -> Routed:
    """Return where the payment goes under this policy, and why.

    Args:
        policy: of its origin.
        payment: what is asked for. Of its tokens the gateways and kinds are read, of its payer the country.
        supported: what the accounts of this engine can do. Others that a policy names are passed over.
    """
    if policy.dry_run:
        plain = _course(policy, (), payment, supported)
        return Routed(course=plain, shadow=_course(policy, policy.rules, payment, supported))
    return Routed(course=_course(policy, policy.rules, payment, supported), shadow=None)


def _course(
    policy: OriginPolicy,
    rules: Sequence[RoutingRule],
    payment: PaymentRequested,
    supported: Mapping[GatewayRoute, Capabilities],
) -> Course:
    misfits: list[Misfit] = []
    chosen: int | None = None
    for number, rule in enumerate(rules, start=1):
        misfit = misfit_of(rule, payment)
        if misfit is None:
            chosen = number
            break
        misfits.append(misfit)
    named = policy.gateways if chosen is None else tuple(each.gateway for each in rules[chosen - 1].routes)
    passed_over = {route: why for route in named if (why := _why_unable(route, payment, supported)) is not None}
    able = tuple(route for route in named if route not in passed_over)
    if chosen is not None:
        able = _by_weight(rules[chosen - 1].routes, able, payment)
    routes = _with_token(payment, able)
    passed_over |= {route: PassedOver.TOKEN for route in able if route not in routes}
    refusal = Rejection.LIMIT_EXCEEDED if _exceeds(policy, payment) else None if routes else Rejection.NO_GATEWAY
    return Course(
        rule=chosen,
        misfits=tuple(misfits),
        routes=routes,
        passed_over=tuple((route, passed_over[route]) for route in named if route in passed_over),
        plan=_plan(policy, routes, refusal=refusal),
    )


def misfit_of(rule: RoutingRule, payment: PaymentRequested) -> Misfit | None:
    """Return the first condition of the rule that the payment does not meet; None: it fits.

    A payment that says nothing of a kind of token, or of the payer's country, meets no condition about it.
    """
    if rule.currencies and payment.currency not in rule.currencies:
        return Misfit.CURRENCY
    least, most = rule.min_amount_minor, rule.max_amount_minor
    if (least is not None and payment.amount_minor < least) or (most is not None and payment.amount_minor > most):
        return Misfit.AMOUNT
    if rule.token_kinds and not any(token.kind in rule.token_kinds for token in payment.tokens):
        return Misfit.KIND
    country = None if payment.payer is None else payment.payer.country
    if rule.payer_countries and country not in rule.payer_countries:
        return Misfit.PAYER_COUNTRY
    return None


def _why_unable(
    route: GatewayRoute, payment: PaymentRequested, supported: Mapping[GatewayRoute, Capabilities]
) -> PassedOver | None:
    can = supported.get(route)
    if can is None:
        return PassedOver.NOT_SET_UP
    kind = CallKind(kind_of(payment).value)
    if not can.supports(kind, None):
        return PassedOver.OPERATION
    return None if can.supports(kind, payment.currency) else PassedOver.CURRENCY


def _by_weight(
    weighted: Sequence[WeightedRoute], able: tuple[GatewayRoute, ...], payment: PaymentRequested
) -> tuple[GatewayRoute, ...]:
    first = first_by_weight(
        [each for each in weighted if each.gateway in able], origin_id=payment.origin_id, order_id=payment.order_id
    )
    return able if first is None else (first, *(route for route in able if route != first))


def first_by_weight(
    weighted: Sequence[WeightedRoute], *, origin_id: OriginId, order_id: OrderId
) -> GatewayRoute | None:
    """Return the route that goes first for this order; None when none of them has a weight.

    Weighted rendezvous hashing. Each route draws a number for the order, the first 52 bits of the SHA-256 of origin,
    order and route; the highest of weight / -ln(number) wins. So each route gets its share of the orders, an order's
    route is always the same, and a change of weights moves only the orders whose route has lost share.
    """
    sharing = [each for each in weighted if each.weight > 0]
    if len(sharing) <= 1:
        return sharing[0].gateway if sharing else None
    return max(sharing, key=lambda each: each.weight / -math.log(_drawn(origin_id, order_id, each.gateway))).gateway


def _drawn(origin_id: OriginId, order_id: OrderId, route: GatewayRoute) -> float:
    """Return a number between 0 and 1, neither of them, that follows from the three alone."""
    digest = sha256(f"{origin_id}|{order_id}|{route}".encode()).digest()
    return ((int.from_bytes(digest[:8]) >> (64 - _HASH_BITS)) + 0.5) / (1 << _HASH_BITS)


def _with_token(payment: PaymentRequested, able: tuple[GatewayRoute, ...]) -> tuple[GatewayRoute, ...]:
    """Return those of the routes that the payment brings a token for, in their order.

    A single token is that of the first route's gateway: no other would know it. A token that names no account is good
    for each account there that has none of its own.
    """
    if payment.token is not None:
        named: frozenset[str] = frozenset(parts_of(route)[0] for route in able[:1])
    else:
        named = frozenset(token.gateway for token in payment.tokens)
    return tuple(route for route in able if route in named or parts_of(route)[0] in named)


def _plan(policy: OriginPolicy, routes: tuple[GatewayRoute, ...], *, refusal: Rejection | None) -> RoutePlan:
    candidates = routes if policy.fallback else routes[:1]
    return RoutePlan(
        policy_version=policy.version,
        gateways=tuple(islice(cycle(candidates), policy.max_attempts)),
        refusal=refusal,
        action_life_ms=policy.action_life_ms,
        fallback_classes=policy.fallback_classes if len(candidates) > 1 else (),
    )


def _exceeds(policy: OriginPolicy, payment: PaymentRequested) -> bool:
    return any(
        limit.currency == payment.currency and payment.amount_minor > limit.max_amount_minor for limit in policy.limits
    )
