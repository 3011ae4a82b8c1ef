"""What the gateway contract suite needs of each gateway: a real peer over a socket, and what provokes each situation.

A new gateway `x` writes one class that fulfils `GatewayUnderTest`, in `tests/support/x_gateway_under_test.py`, beside
`started`, which runs its peer: the fixtures of `tests/contract` find it by that name. What the peer cannot do
stands in `cannot`, with the reason, and is skipped by name: nothing is skipped silently.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from gateway_adapters.contract import CertificateFetcher, Gateway
from gateway_adapters.errors import Code
from schemas.records.commands import NamedText
from schemas.records.gateway import CallDetails, GatewayCallRequested
from schemas.vocabulary import CallKind
from tests.support.gateway_calls import NO_CERTIFICATES
from tests.support.mock_gateway_process import Delivered


class Situation(StrEnum):
    """Something that can happen to the next call of an order."""

    TIMEOUT_BEFORE = "timeout_before"
    TIMEOUT_AFTER = "timeout_after"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    HTML_502_BEFORE = "html_502_before"
    HTML_502_AFTER = "html_502_after"
    SERVER_ERROR_AFTER = "server_error_after"
    STORED_500_BEFORE = "stored_500_before"
    STORED_500_AFTER = "stored_500_after"
    CUT_AFTER = "cut_after"
    RATE_LIMITED = "rate_limited"
    UNAUTHORIZED = "unauthorized"
    PENDING_THEN_SUCCEEDED = "pending_then_succeeded"
    PENDING_THEN_FAILED = "pending_then_failed"
    DUPLICATE_WEBHOOKS = "duplicate_webhooks"
    OUT_OF_ORDER_WEBHOOKS = "out_of_order_webhooks"
    REFUSED_THEN_SUCCEEDED = "refused_then_succeeded"
    ACTION_EXPIRED = "action_expired"
    LATE_FAILURE = "late_failure"
    PARTIAL_REVERSAL = "partial_reversal"  # of 30 %
    TWO_REVERSALS = "two_reversals"  # of 30 %, then of 20 %
    RECAPTURED = "recaptured"
    HOLD_EXPIRED = "hold_expired"
    DESK_REFUND = "desk_refund"
    PARTIAL_DESK_REFUND = "partial_desk_refund"  # of 30 %
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"
    PARTIAL_DISPUTE_LOST = "partial_dispute_lost"  # of 30 %
    CHARGEBACK_WON = "chargeback_won"
    CHARGEBACK_LOST = "chargeback_lost"
    PARTIAL_CHARGEBACK_LOST = "partial_chargeback_lost"  # of 30 %
    PARTIAL_CHARGEBACK_WON = "partial_chargeback_won"  # of 30 %
    EARLY_WEBHOOK = "early_webhook"
    WEBHOOKS_BY_REFERENCE = "webhooks_by_reference"
    BATCHED_WEBHOOKS = "batched_webhooks"
    AMOUNT_MISMATCH = "amount_mismatch"
    PARTIAL_APPROVAL = "partial_approval"  # of 60 %
    UNKNOWN_STATUS = "unknown_status"
    NOT_FOUND_YET = "not_found_yet"
    SLOW = "slow"
    REFUSED = "refused"  # nobody listens


class GatewayUnderTest(Protocol):
    """One gateway and its peer. What has a value here is how most gateways are; the others say so."""

    token: str = "tok_visa"
    """One that simply works."""

    tells_later: frozenset[CallKind] = frozenset()
    """Kinds that are answered with 'received': their verdict comes by webhook."""

    marks_replays: bool = True
    """Whether an answer that was stored under the key says so."""

    compares_bodies: bool = True
    """Whether a key refuses another request than its first; else that one's answer is given again."""

    signs_time: bool = True
    """Whether a webhook's time is signed, so that an old one can be refused."""

    names_orders: bool = True
    """Whether notices of what the engine asked for give origin and order back, and not our operation's id alone."""

    tells_reversals: bool = True
    """Whether an inquiry tells that a success was taken back."""

    names_cases: bool = True
    """Whether a reversal names the dispute that it carries out; else it is a case of its own."""

    details: CallDetails | None = None
    """What every payment needs beside its token."""

    certificates: CertificateFetcher = NO_CERTIFICATES
    """Where its webhooks' certificates are fetched."""

    gateway: Gateway
    """The adapter, with a read time-out well below a second, connected to the peer."""

    cannot: Mapping[Situation, str]
    """What the peer cannot provoke, and why."""

    decline_tokens: Mapping[Code, str]
    """A token for each decline the peer knows."""

    action_token: str | None
    """A token that makes the payer act; None: the peer has none."""

    async def provoke(self, situation: Situation, request: GatewayCallRequested) -> None:
        """Let this happen to the next call of the request's kind and order."""
        ...

    completion_token: str | None
    """A token that makes the payer act, and the engine then complete the payment; None: the peer has none."""

    async def come_back(self, reference: str, *, agreed: bool) -> tuple[NamedText, ...]:
        """Act as the payer, and return what the payer comes back with."""
        ...

    async def complete_action(self, reference: str) -> None:
        """Act as the payer: yes."""
        ...

    async def listening_again(self) -> None:
        """Return once the peer accepts connections again."""
        ...

    def effects(self, request: GatewayCallRequested) -> list[tuple[str, int]]:
        """Return kind and amount of what really happened to the request's order: the witness, not the adapter."""
        ...

    async def webhooks(self, count: int) -> list[Delivered]:
        """Return the webhooks delivered since the test began, once there are so many."""
        ...

    def tampered(self, body: bytes) -> bytes:
        """Return a webhook's body, about 100.00, with another amount."""
        return body.replace(b"10000", b"10001")

    def unsigned(self, body: bytes) -> bytes:
        """Return a webhook's body without its signature, where that stands in it."""
        return body


Opener = Callable[[], AbstractAsyncContextManager[GatewayUnderTest]]
"""Opens an adapter on a peer that runs, for one test."""

PeerStarter = Callable[[Path], AbstractContextManager[Opener]]
"""Runs a gateway's peer, which may keep files in the folder, until the block ends."""
