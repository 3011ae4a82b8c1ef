"""The routing policy of an origin: which holds, and what one has to be so that it can work. Pure.

`validate` is called by `policy set` and by whoever reads `policies.v1`, so that a policy that cannot work never becomes
the one in force. Where a payment goes under a policy says `routing`; after which declines it may go on is said here.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from gateway_adapters.errors import Code
from schemas.commands_validation import MAX_TOKEN_KIND_CHARS
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
from schemas.money import MAX_AMOUNT_MINOR
from schemas.records.gateway import OperationError
from schemas.records.policies import OriginPolicy, RoutingRule
from schemas.vocabulary import DeclineClass

ANY_ORIGIN: Final = "*"
"""The policy of every origin that has none of its own."""

DEFAULT_ATTEMPTS: Final = 3
MAX_ATTEMPTS: Final = 10
MAX_GATEWAYS: Final = 10
MAX_LIMITS: Final = 200
"""There are fewer currencies than that."""

MAX_RULES: Final = 50
"""A page of them, which a person can still read. The first that fits is looked for with each payment."""

MAX_CONDITIONS: Final = 250
"""Currencies, countries or kinds of token of one rule: there are 249 countries (ISO 3166-1)."""

MAX_WEIGHT: Final = 10_000
"""So shares can be told to a hundredth of a percent."""

_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_TOKEN_KIND: Final = re.compile(rf"[!-~]{{1,{MAX_TOKEN_KIND_CHARS}}}")

_NEVER_ELSEWHERE: Final = frozenset(
    {
        Code.DUPLICATE,  # the payment may have been made already
        Code.PARTIALLY_APPROVED,  # a part of it is held until it is let go
        Code.FAILED_LATE,  # these four are said of what was carried out, or waited for its payer
        Code.AUTHORIZATION_EXPIRED,
        Code.CANCELLED,
        Code.ACTION_EXPIRED,
        Code.REVOKED,  # the payer wants no such payment, at no gateway
        Code.LOST_OR_STOLEN,
        Code.FRAUDULENT,
        Code.NOTHING_LEFT,  # these three are said of what follows a payment, which is where the payment is
        Code.NOT_PERMITTED,
        Code.NOT_YET,
    }
)
"""Declines after which no other gateway is asked, whatever their class: they do not say that nothing is held, or what
they say of the payer is true everywhere."""


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


def may_help_elsewhere(error: OperationError | None, classes: Collection[DeclineClass]) -> bool:
    """Return whether another gateway may be asked after this decline, by the classes that a policy names."""
    return error is not None and error.decline_class in classes and error.code not in _NEVER_ELSEWHERE


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
    _check_routes("gateways", policy.gateways, known)
    _require(len(policy.limits) <= MAX_LIMITS, f"limits must be at most {MAX_LIMITS}")
    currencies = [limit.currency for limit in policy.limits]
    _require(len(set(currencies)) == len(currencies), "limits must not repeat a currency")
    for limit in policy.limits:
        _require(_CURRENCY.fullmatch(limit.currency) is not None, "limits must name ISO 4217 currencies, upper case")
        _require(limit.max_amount_minor > 0, "limits must be positive")
    _check_fallback_classes(policy)
    _require(len(policy.rules) <= MAX_RULES, f"rules must be at most {MAX_RULES}")
    for number, rule in enumerate(policy.rules, start=1):
        _check_rule(f"rule {number}", rule, known)
    _require(bool(policy.rules) or not policy.dry_run, "dry_run tells what rules would do: it needs some")


def _check_fallback_classes(policy: OriginPolicy) -> None:
    classes = policy.fallback_classes
    _require(policy.fallback or not classes, "fallback_classes needs fallback: else there is no other gateway")
    _require(len(set(classes)) == len(classes), "fallback_classes must not repeat")
    _require(DeclineClass.FRAUD not in classes, "fallback_classes must not hold fraud: it is no other gateway's either")


def _check_rule(at: str, rule: RoutingRule, known: frozenset[GatewayName] | None) -> None:
    for name, values, form, told in (
        ("currencies", rule.currencies, _CURRENCY, "ISO 4217 currencies, upper case"),
        ("payer_countries", rule.payer_countries, _COUNTRY, "ISO 3166-1 countries of two letters, upper case"),
        ("token_kinds", rule.token_kinds, _TOKEN_KIND, f"visible ASCII of at most {MAX_TOKEN_KIND_CHARS} characters"),
    ):
        _require(len(values) <= MAX_CONDITIONS, f"{at}: {name} must be at most {MAX_CONDITIONS}")
        _require(len(set(values)) == len(values), f"{at}: {name} must not repeat")
        _require(all(form.fullmatch(each) for each in values), f"{at}: {name} must be {told}")
    _check_amounts(at, rule)
    _check_routes(f"{at}: routes", [each.gateway for each in rule.routes], known)
    _require(bool(rule.routes), f"{at}: routes must name a gateway")
    weights = [each.weight for each in rule.routes]
    _require(all(0 <= each <= MAX_WEIGHT for each in weights), f"{at}: each weight must be 0 to {MAX_WEIGHT}")
    _require(any(weights), f"{at}: one weight at least must be above 0")


def _check_amounts(at: str, rule: RoutingRule) -> None:
    least, most = rule.min_amount_minor, rule.max_amount_minor
    given = [each for each in (least, most) if each is not None]
    _require(bool(rule.currencies) or not given, f"{at}: amounts need currencies: a minor unit is not worth the same")
    _require(
        all(0 < each <= MAX_AMOUNT_MINOR for each in given),
        f"{at}: amounts must be minor units, 1 to {MAX_AMOUNT_MINOR}",
    )
    _require(given == sorted(given), f"{at}: min_amount_minor must not be above max_amount_minor")


def _check_routes(at: str, routes: Sequence[GatewayRoute], known: frozenset[GatewayName] | None) -> None:
    _require(len(routes) <= MAX_GATEWAYS, f"{at} must be at most {MAX_GATEWAYS}")
    _require(len(set(routes)) == len(routes), f"{at} must not repeat")
    for route in routes:
        _check_route(at, route)
    if known is not None:
        unknown = ", ".join(sorted({parts_of(route)[0] for route in routes} - known))
        _require(not unknown, f"{at} names {unknown}, which this engine does not have; known: {_listed(known)}")


def _check_route(at: str, route: GatewayRoute) -> None:
    try:
        gateway, account = parts_of(route)
        own = gateway_route(gateway, account_name(account))
    except InvalidIdentifierError as error:
        raise MisconfiguredError(f"policy: {at}: {route!r}: {error}") from error
    _require(route == own, f"{at}: {route!r} is written {own!r}")


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
