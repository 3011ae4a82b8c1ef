"""The per-origin routing policy, on the compacted topic `policies.v1` (key: origin id, or `*` for all others)."""

from dataclasses import dataclass

from schemas.identifiers import GatewayRoute
from schemas.quick_init import quick_init
from schemas.vocabulary import DeclineClass


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class AmountLimit:
    """The largest amount of one payment in one currency."""

    currency: str
    max_amount_minor: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedRoute:
    """A gateway or account, and its share of the payments among those beside it."""

    gateway: GatewayRoute  # `gateway` (its default account), or `gateway/account`
    weight: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingRule:
    """Where payments of a kind go. What is empty, or None, says nothing about a payment."""

    currencies: tuple[str, ...]
    min_amount_minor: int | None
    max_amount_minor: int | None
    token_kinds: tuple[str, ...]
    payer_countries: tuple[str, ...]  # ISO 3166-1 alpha-2, upper case
    routes: tuple[WeightedRoute, ...]  # the first by weight, stable by order id; the others after it, in this order


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class OriginPolicy:
    """Which gateways an origin's payments may go to, in order, and within which limits."""

    origin_id: str  # or `*`
    version: int  # rises with every change
    gateways: tuple[GatewayRoute, ...]  # `gateway` (its default account), or `gateway/account`
    fallback: bool  # whether a call that was not executed may go to the next gateway
    max_attempts: int  # over all gateways, 1 to 10
    limits: tuple[AmountLimit, ...]  # a currency without an entry has no limit
    updated_at_ms: int
    action_life_ms: int | None = None  # how long a payer may take to act; None: an hour
    rules: tuple[RoutingRule, ...] = ()  # the first that fits a payment says its gateways
    fallback_classes: tuple[DeclineClass, ...] = ()  # declines after which another gateway may be tried
    dry_run: bool = False  # rules tell where payments would have gone, and route none
