"""Idempotency across orders: the records of `idempotency.claims.v1` and `idempotency.verdicts.v1`, and the claim row.

The orders agent asks, the claims agent answers; the first claim of a key in log order wins (DESIGN.md, "Idempotency
across partitions").
"""

from dataclasses import dataclass

from schemas.identifiers import GatewayRoute, IdempotencyKey, OpId, OrderId, OriginId
from schemas.quick_init import quick_init
from schemas.vocabulary import DeclineClass, Rejection


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class RoutePlan:
    """Where an operation may go, attempt by attempt, by the policy when its claim was made. Pinned by the claim."""

    policy_version: int
    gateways: tuple[GatewayRoute, ...]  # `gateway` (its default account), or `gateway/account`
    refusal: Rejection | None  # the policy's refusal (a limit), pinned like the rest
    action_life_ms: int | None = None  # how long a payer may take to act; None: as long as the engine's default
    fallback_classes: tuple[DeclineClass, ...] = ()  # declines after which the next attempt is made


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequested:
    """Ask that this operation be the one that its idempotency key stands for."""

    origin_id: OriginId
    idempotency_key: IdempotencyKey
    order_id: OrderId
    op_id: OpId
    plan: RoutePlan
    requested_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiringClaim:
    """A claim that is older than its life, as far as the sweep knows."""

    origin_id: OriginId
    idempotency_key: IdempotencyKey
    due_at_ms: int  # as its row said it


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimExpiryRequested:
    """Ask the claims agent to forget claims that are older than their life; sent by its own sweep, of one partition."""

    claims: tuple[ExpiringClaim, ...]
    asked_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDecided:
    """The verdict: granted, or held by another operation. The same operation always gets the same verdict."""

    origin_id: OriginId
    idempotency_key: IdempotencyKey
    order_id: OrderId  # of the operation that asked
    op_id: OpId  # the operation that asked
    granted: bool
    holder_order_id: OrderId
    holder_op_id: OpId
    plan: RoutePlan  # of the claim that won
    decided_at_ms: int


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRow:
    """What the claims table keeps of a key."""

    op_id: OpId
    order_id: OrderId
    plan: RoutePlan
    claimed_at_ms: int
    rules_version: int = 0  # of the rules that decided it
