"""The routing policy of an origin: which gateways its payments may go to, and how large they may be. Pure.

`plan_for` is called by the orders agent when it first sends an operation's claim; the claim pins the plan, and
nothing reads the policy again for that operation (DESIGN.md, 'Idempotency across partitions'). `validate` is called by
`policy set` and by whoever reads `policies.v1`, so that a policy that cannot work never becomes the one in force.

A plan is a schedule: attempt n goes to its n-th gateway, and after the last entry there is no other attempt. That
pins `fallback` and `max_attempts` together with the order, in one list:

* gateways (a, b), no fallback, 3 attempts → (a, a, a)
* gateways (a, b), fallback, 3 attempts, a token for each → (a, b, a)
* gateways (a, b), fallback, 3 attempts, one token → (a, a, a): it is a's, and means nothing to b
* gateways (a, a/eu), fallback, 2 attempts → (a, a/eu): two accounts at one gateway

A capture, void or refund goes to the gateway that holds its payment, whatever the policy says today. Its plan only
says how many attempts there are, and is never a refusal: a payment that was taken can be given back.
"""

import re
from collections.abc import Mapping
from itertools import cycle, islice
from typing import Final

from gateway_adapters.contract import Capabilities
from schemas.identifiers import (
    GatewayName,
    GatewayRoute,
    InvalidIdentifierError,
    OriginId,
    account_name,
    gateway_route,
    origin_id,
    parts_of,
)
from schemas.misconfigured import MisconfiguredError
from schemas.records.claims import RoutePlan
from schemas.records.commands import Command, PaymentRequested, kind_of
from schemas.records.policies import OriginPolicy
from schemas.vocabulary import CallKind, Rejection

ANY_ORIGIN: Final = "*"
"""The policy of every origin that has none of its own."""

DEFAULT_ATTEMPTS: Final = 3
MAX_ATTEMPTS: Final = 10
MAX_GATEWAYS: Final = 10
MAX_LIMITS: Final = 200
"""There are fewer currencies than that."""

_CURRENCY: Final = re.compile(r"[A-Z]{3}")


def default_policy(gateways: tuple[GatewayRoute, ...]) -> OriginPolicy:
    """Return the policy of version 0 that holds until `policies.v1` brings one. Without gateways it refuses."""
    return OriginPolicy(
        origin_id=ANY_ORIGIN,
        version=0,
        gateways=gateways,
        fallback=len(gateways) > 1,
        max_attempts=DEFAULT_ATTEMPTS,
        limits=(),
        updated_at_ms=0,
    )


MIN_ACTION_LIFE_MS: Final = 60_000
"""Shorter than this no payer has found the page, and the telephone that shows the code."""

MAX_ACTION_LIFE_MS: Final = 7 * 24 * 3_600_000
"""Longer than this no gateway that we know keeps such a page (PayPal's default is three hours, Stripe's a day)."""

REFUSE_ALL: Final = default_policy(())
"""Of an origin that no policy speaks of, not even `*`."""


def policy_for(policies: Mapping[str, OriginPolicy], origin: OriginId) -> OriginPolicy:
    """Return the origin's own policy, else the one of `*`, else `REFUSE_ALL`."""
    return policies.get(origin) or policies.get(ANY_ORIGIN) or REFUSE_ALL


def plan_for(
    policies: Mapping[str, OriginPolicy], command: Command, supported: Mapping[GatewayRoute, Capabilities]
) -> RoutePlan:
    """Return the route plan of this command under these policies.

    Args:
        policies: by origin id, or `*`.
        command: what is asked for.
        supported: what the accounts of this engine can do. Others that a policy names are passed over, and so is one
            that does not take the command's currency.
    """
    policy = policy_for(policies, command.origin_id)
    if not isinstance(command, PaymentRequested):
        return _plan(policy, policy.gateways, refusal=None)
    kind = CallKind(kind_of(command).value)
    able = tuple(
        name for name in policy.gateways if name in supported and supported[name].supports(kind, command.currency)
    )
    routes = _with_token(command, able)
    if _exceeds(policy, command):
        return _plan(policy, routes, refusal=Rejection.LIMIT_EXCEEDED)
    return _plan(policy, routes, refusal=None if routes else Rejection.NO_GATEWAY)


def _with_token(command: PaymentRequested, able: tuple[GatewayRoute, ...]) -> tuple[GatewayRoute, ...]:
    """Return those of the gateways and accounts that the payment brings a token for, in their order.

    A single token is that of the first gateway: no other would know it. A token that names no account is good for each
    account there that has none of its own.
    """
    if command.token is not None:
        named: frozenset[str] = frozenset(parts_of(route)[0] for route in able[:1])
    else:
        named = frozenset(token.gateway for token in command.tokens)
    return tuple(route for route in able if route in named or parts_of(route)[0] in named)


def _plan(policy: OriginPolicy, gateways: tuple[GatewayRoute, ...], *, refusal: Rejection | None) -> RoutePlan:
    candidates = gateways if policy.fallback else gateways[:1]
    return RoutePlan(
        policy_version=policy.version,
        gateways=tuple(islice(cycle(candidates), policy.max_attempts)),
        refusal=refusal,
        action_life_ms=policy.action_life_ms,
    )


def _exceeds(policy: OriginPolicy, command: PaymentRequested) -> bool:
    return any(
        limit.currency == command.currency and command.amount_minor > limit.max_amount_minor for limit in policy.limits
    )


def validate(policy: OriginPolicy, *, known: frozenset[GatewayName] | None = None) -> None:
    """Return if the policy can work.

    Args:
        policy: to be put in force.
        known: the gateways there are; None when the caller cannot know. Which accounts there are, each deployment
            of the workers says by itself.

    Raises:
        MisconfiguredError: it cannot; the message says which field and why.
    """
    _check_origin(policy.origin_id)
    _require(policy.version >= 0, "version must not be negative")
    _require(1 <= policy.max_attempts <= MAX_ATTEMPTS, f"max_attempts must be 1 to {MAX_ATTEMPTS}")
    life_ms = policy.action_life_ms
    _require(
        life_ms is None or MIN_ACTION_LIFE_MS <= life_ms <= MAX_ACTION_LIFE_MS,
        f"action_life_ms must be {MIN_ACTION_LIFE_MS} to {MAX_ACTION_LIFE_MS}",
    )
    _require(len(policy.gateways) <= MAX_GATEWAYS, f"gateways must be at most {MAX_GATEWAYS}")
    _require(len(set(policy.gateways)) == len(policy.gateways), "gateways must not repeat")
    for route in policy.gateways:
        _check_route(route)
    if known is not None:
        unknown = ", ".join(sorted({parts_of(route)[0] for route in policy.gateways} - known))
        _require(not unknown, f"gateways names {unknown}, which this engine does not have; known: {_listed(known)}")
    _require(len(policy.limits) <= MAX_LIMITS, f"limits must be at most {MAX_LIMITS}")
    currencies = [limit.currency for limit in policy.limits]
    _require(len(set(currencies)) == len(currencies), "limits must not repeat a currency")
    for name in ("rules", "fallback_classes", "dry_run"):
        _require(not getattr(policy, name), f"{name} is for a later release: this one routes by gateways alone")
    for limit in policy.limits:
        _require(_CURRENCY.fullmatch(limit.currency) is not None, "limits must name ISO 4217 currencies, upper case")
        _require(limit.max_amount_minor > 0, "limits must be positive")


def _check_route(route: GatewayRoute) -> None:
    try:
        gateway, account = parts_of(route)
        own = gateway_route(gateway, account_name(account))
    except InvalidIdentifierError as error:
        raise MisconfiguredError(f"policy: gateways: {route!r}: {error}") from error
    _require(route == own, f"gateways: {route!r} is written {own!r}")


def _check_origin(origin: str) -> None:
    if origin == ANY_ORIGIN:
        return
    try:
        origin_id(origin)
    except InvalidIdentifierError as error:
        raise MisconfiguredError(f"policy: origin_id: {error}") from error


def _listed(names: frozenset[GatewayName]) -> str:
    return ", ".join(sorted(names)) or "none"


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise MisconfiguredError(f"policy: {otherwise}")
