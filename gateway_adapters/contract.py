"""The port: what the engine asks of any payment gateway, and what it gets back.

The executor calls `Gateway.call`; the webhook route calls `verify_webhook`; the orders agent calls `parse_webhook`,
which is pure, so that a replay translates a notice as the first run did. Each gateway's folder has one class that
fulfils this, and `tests/contract/test_gateway_contract_*.py` hold every one of them to it over a real socket.

Rules that every adapter keeps:

* A call never raises for what a gateway or the network does; it returns a result (see `errors`).
* Our reference at the gateway is the operation's id (`op_id`, 35 characters, which fits everywhere): each request that
  is to have an effect carries it, so that notices can give it back. Payment ids can be longer than a gateway takes.
* The same request sent again carries the same `gateway_key` and has the same effect as sending it once.
* NOT_EXECUTED is said only on positive evidence. A failed inquiry is UNKNOWN: it says nothing about the operation.
* The token is sent and forgotten: it is in no result, no log line and no exception.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

import orjson

from gateway_adapters import errors
from gateway_adapters.errors import InvariantViolatedError, Signal
from schemas.identifiers import GatewayName, OpId, OrderId, OriginId
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, OperationError
from schemas.vocabulary import CallKind, Outcome

MAX_RAW_CHARS = 2048
"""Longest `raw` kept of an answer: enough to read what happened, small enough for a row and a log record."""

MAX_RAW_VALUE_CHARS = 200
"""Longest text of one member in it: references and codes are shorter."""

MAX_RAW_ITEMS = 10
"""Most items of one list in it."""

WINDOW_MARGIN_MS = 60_000
"""An idempotency window counts as closed this much early: our clock and the gateway's differ, and a call takes time."""

AllowList = Mapping[str, "AllowList"]
"""The members of an answer that may be kept, each with those below it; none below it: the member itself."""

RawHeaders = Mapping[str, str]
"""A webhook's HTTP headers, names in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What one call came to. Of an inquiry: what the operation it asked about came to."""

    outcome: Outcome
    gateway_reference: str | None = None  # the gateway's id of what the call made, the same in each word about it
    payment_reference: str | None = None  # the gateway's id of the payment that it belongs to
    confirmed_amount_minor: int | None = None
    confirmed_currency: str | None = None
    action_url: str | None = None  # of REQUIRES_ACTION: where the payer goes
    error: OperationError | None = None
    raw: str | None = None  # what of the answer may be kept (`kept_of`), at most MAX_RAW_CHARS
    replayed: bool = False  # the gateway gave the stored answer of an earlier call with the same key
    occurred_at_ms: int | None = None  # when it came to this, by the gateway's own clock; None: it does not say
    case_reference: str | None = None  # of REVERSED: as in a notice about it, so that both count once


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayNotice:
    """One thing a webhook says, in the engine's words. The same notice delivered twice has the same `notice_id`.

    SUCCEEDED is absolute: from then on the operation counts for the confirmed amount, also after a reversal. REVERSED
    and DISPUTE_* confirm how much is taken back or disputed, under their case (None: all that it counts for). A refund
    made at the gateway's own desk is a SUCCEEDED of kind REFUND without `op_id`, with its own reference and the
    payment's.
    """

    gateway: GatewayName
    notice_id: str
    origin_id: OriginId | None  # these three come back as metadata when the gateway keeps some
    order_id: OrderId | None
    op_id: OpId | None
    kind: CallKind | None
    outcome: Outcome
    gateway_reference: str | None
    payment_reference: str | None
    confirmed_amount_minor: int | None
    confirmed_currency: str | None
    error: OperationError | None
    occurred_at_ms: int  # by the gateway's clock
    case_reference: str | None = None  # the gateway's id of the reversal or dispute, the same in every word about it


class Ability(StrEnum):
    """What some gateways, and some accounts at them, cannot do: each is a field of `Capabilities`."""

    PARTIAL_CAPTURE = "partial_capture"
    MULTIPLE_CAPTURE = "multiple_capture"
    PARTIAL_REFUND = "partial_refund"
    MULTIPLE_REFUND = "multiple_refund"
    INQUIRE_BY_KEY = "inquire_by_key"
    INQUIRE_BY_REFERENCE = "inquire_by_reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What can be done at a gateway, or with one account there. It is read; nothing is tried to find out."""

    operations: frozenset[CallKind]
    currencies: frozenset[str] | None  # None: every currency
    partial_capture: bool
    multiple_capture: bool
    partial_refund: bool
    multiple_refund: bool
    inquire_by_key: bool  # by the idempotency key alone, which is all there is after a lost answer
    inquire_by_reference: bool
    not_found_is_proof: bool  # whether 'not found' can be positive evidence at all
    webhooks: bool
    key_window_ms: Mapping[CallKind, int | None]  # how long a key is honoured; None: for ever; absent: not at all
    pending_life_ms: Mapping[CallKind, int] = field(default_factory=dict)  # how long a last word may take; else a month
    refunds_name_captures: bool = False  # a refund draws from one capture, which it names, and from no more
    voids_by_own_reference: bool = False  # what the gateway has not named (yet) can be voided by our reference alone
    notice_times_signed: bool = True  # else whoever repeats a notice can date it anew: a date alone settles nothing
    tells_cases: bool = True
    """Whether a reversal, or a refund at the gateway's own desk, names the dispute that it carries out, if it does."""
    not_in_currency: frozenset[tuple[Ability, str]] = frozenset()  # abilities that it lacks in one currency
    references_indexed: frozenset[CallKind] = frozenset()
    """Kinds whose reference at the gateway is kept in the references index once it is known: what a notice names that
    gives nothing of ours back."""
    own_references_indexed: frozenset[CallKind] = frozenset()
    """Kinds whose operation id, which is our reference at the gateway, is kept there with the intent already: where a
    notice gives that back and nothing else of ours, and may come before the answer."""

    def supports(self, kind: CallKind, currency: str | None) -> bool:
        """Return whether this operation, in this currency if one is given, can be asked of the gateway."""
        known_currency = currency is None or self.currencies is None or currency in self.currencies
        return kind in self.operations and known_currency

    def can_be_asked(self, currency: str, *, reference_known: bool) -> bool:
        """Return whether an inquiry can be made: by the key alone, or by the gateway's reference when it is known."""
        by_reference = reference_known and self.can(Ability.INQUIRE_BY_REFERENCE, currency)
        return CallKind.INQUIRE in self.operations and (by_reference or self.can(Ability.INQUIRE_BY_KEY, currency))

    def can(self, ability: Ability, currency: str) -> bool:
        """Return whether it has the ability for payments in this currency."""
        has: bool = getattr(self, ability.value)
        return has and (ability, currency) not in self.not_in_currency


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """The answer that tells a gateway that its webhook is kept: some want more than a status."""

    status: int = 200
    content_type: str = "application/json"
    body: bytes = b'{"status":"ok"}'


ACKNOWLEDGED: Final = Acknowledgement()


class CertificateFetcher(Protocol):
    """Fetches a certificate that a webhook is signed with; bounded in every way, for strangers name the URL."""

    async def fetch(self, url: str, *, hosts: frozenset[str]) -> bytes:
        """Return what stands at the URL; nothing is fetched but by https from one of the hosts.

        Raises:
            UnauthenticError: the URL is another, or nothing stands there.
            UnverifiableError: it cannot be had now.
        """
        ...


class WebhookTranslator(Protocol):
    """The pure half of a gateway's webhooks: no secret, no clock, no I/O, so it may run inside a replay."""

    @property
    def webhook_headers(self) -> frozenset[str]:
        """The headers that its webhooks are verified or read by, in lower case: no other is looked at, or kept."""
        ...

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:
        """Return what the webhook says, in its order.

        Raises:
            UntranslatableError: it cannot be read.
        """
        ...


class Gateway(WebhookTranslator, Protocol):
    """One payment gateway.

    Each call sends one request, and returns a result within the transport's time-outs, whatever the gateway or the
    network does. Making it twice with the same `gateway_key` is safe inside the key's window: its effect is there once.
    Amounts are minor units of the request's ISO 4217 currency.
    """

    @property
    def name(self) -> GatewayName:
        """The name policies and records know it by."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, the same for as long as the process runs."""
        ...

    async def authorize(self, request: GatewayCallRequested) -> CallResult:
        """Hold `amount_minor` on the token. SUCCEEDED carries the reference that captures and voids will name."""
        ...

    async def sale(self, request: GatewayCallRequested) -> CallResult:
        """Hold `amount_minor` on the token and capture it at once. SUCCEEDED carries the reference for refunds."""
        ...

    async def capture(self, request: GatewayCallRequested) -> CallResult:
        """Take `amount_minor` of what `payment_reference` holds; `final` releases the rest."""
        ...

    async def void(self, request: GatewayCallRequested) -> CallResult:
        """Release all that `payment_reference` holds. Nothing that was captured is given back.

        Where the gateway `voids_by_own_reference`, what it has not named is told by `opening_op_id` and `opening_kind`.
        """
        ...

    async def refund(self, request: GatewayCallRequested) -> CallResult:
        """Give back `amount_minor` of what `payment_reference` took; of `capture_reference` where refunds name one."""
        ...

    async def complete(self, request: GatewayCallRequested) -> CallResult:
        """Go on with the payment `payment_reference`, whose payer has come back with `details.return_parameters`.

        The result is that of the payment: what its authorize or sale has come to, with its references. Some gateways
        name what waits for its payer by its order alone (`order_reference`), or not at all: then what came back does.
        """
        ...

    async def inquire(self, request: GatewayCallRequested) -> CallResult:
        """Return what became of the operation with this `gateway_key` or `own_reference`. Changes nothing.

        NOT_EXECUTED only where the gateway says with certainty that there is no such operation; UNKNOWN for all else.
        """
        ...

    @property
    def acknowledgement(self) -> Acknowledgement:
        """What it is answered once its webhook is kept: JSON and 200, unless it wants something else."""
        return ACKNOWLEDGED

    async def verify_webhook(
        self, headers: RawHeaders, body: bytes, *, now_ms: int, certificates: CertificateFetcher
    ) -> None:
        """Return if these raw bytes are the gateway's own and fresh, by one of the account's secrets.

        Args:
            headers: of the delivery.
            body: the bytes as they came; they are not parsed.
            now_ms: milliseconds since the epoch, against which the delivery's age is judged.
            certificates: where what it is signed with is fetched, by a gateway that signs with certificates.

        Raises:
            UnauthenticError: they are not, or there is no secret; nothing of them may be kept.
            UnverifiableError: a certificate cannot be had now; the gateway must send it again.
        """
        ...

    async def close(self) -> None:
        """Let go of connections. Calling it twice is safe."""
        ...

    async def call(self, request: GatewayCallRequested) -> CallResult:
        """Carry out the request by its kind: what the executor uses.

        Returns:
            The result. When the gateway has no such operation: nothing is sent, NOT_EXECUTED with `unsupported`
            (UNKNOWN of an inquiry). A payment's success without the gateway's reference is UNKNOWN.

        Raises:
            InvariantViolatedError: the request itself breaks the port's rules.
        """
        check_request(request)
        # A currency that an account takes no more is no reason to keep what was taken in it.
        currency = request.currency if request.kind in (CallKind.AUTHORIZE, CallKind.SALE) else None
        askable = request.kind is not CallKind.INQUIRE or self.capabilities.can_be_asked(
            request.currency, reference_known=request.own_reference is not None
        )
        unnamed = request.kind is CallKind.VOID and request.payment_reference is None
        able = askable and (not unnamed or self.capabilities.voids_by_own_reference)
        if not able or not self.capabilities.supports(request.kind, currency):
            # That an inquiry cannot be made is no proof that the operation never was.
            outcome = Outcome.UNKNOWN if request.kind is CallKind.INQUIRE else Outcome.NOT_EXECUTED
            return CallResult(outcome=outcome, error=errors.error_for(Signal.UNSUPPORTED))
        return _with_reference(request, await self._sent(request))

    async def _sent(self, request: GatewayCallRequested) -> CallResult:  # noqa: PLR0911 - one a kind
        match request.kind:
            case CallKind.AUTHORIZE:
                return await self.authorize(request)
            case CallKind.SALE:
                return await self.sale(request)
            case CallKind.CAPTURE:
                return await self.capture(request)
            case CallKind.VOID:
                return await self.void(request)
            case CallKind.REFUND:
                return await self.refund(request)
            case CallKind.COMPLETE:
                return await self.complete(request)
            case CallKind.INQUIRE:
                return await self.inquire(request)


def check_request(request: GatewayCallRequested) -> None:
    """Return if the request holds what its kind needs.

    Raises:
        InvariantViolatedError: a field that the kind needs is missing; the message names it, never its value.
    """
    missing = missing_of(request)
    if missing:
        raise InvariantViolatedError(f"{request.kind} {request.op_id} lacks {', '.join(missing)}")


def missing_of(request: GatewayCallRequested) -> tuple[str, ...]:
    """Return the names of the fields that the request's kind needs and that it does not hold; nothing can be sent."""
    opens_payment = request.kind in (CallKind.AUTHORIZE, CallKind.SALE)
    named_by_us = request.kind is CallKind.VOID and None not in {request.opening_op_id, request.opening_kind}
    works_on_payment = request.kind in (CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND) and not named_by_us
    missing = {
        "gateway_key": not request.gateway_key,
        "token": opens_payment and not request.token,
        "payment_reference": not request.payment_reference
        and (works_on_payment or (request.kind is CallKind.COMPLETE and not _tells_payment(request))),
        "inquired_kind": request.kind is CallKind.INQUIRE and request.inquired_kind is None,
        "amount_minor": (opens_payment or request.kind in (CallKind.CAPTURE, CallKind.REFUND))
        and request.amount_minor <= 0,
    }
    return tuple(name for name, lacks in missing.items() if lacks)


def _tells_payment(request: GatewayCallRequested) -> bool:
    """Return whether a completion tells its payment otherwise: by the order at the gateway, or by what came back."""
    came_back = request.details is not None and bool(request.details.return_parameters)
    return request.order_reference is not None or came_back


def _with_reference(request: GatewayCallRequested, result: CallResult) -> CallResult:
    """Return the result, in doubt if it is a success that nothing could be captured from, voided or given back.

    A payment is worked on by the gateway's reference. An answer that names none is not the gateway's whole answer.
    """
    kind = request.inquired_kind if request.kind is CallKind.INQUIRE else request.kind
    opens = kind in (CallKind.AUTHORIZE, CallKind.SALE)
    if not opens or result.outcome is not Outcome.SUCCEEDED or result.gateway_reference is not None:
        return result
    error = errors.error_for(Signal.UNREADABLE, detail="a success without the gateway's reference")
    return dataclasses.replace(result, outcome=Outcome.UNKNOWN, error=error)


def completed(request: GatewayCallRequested, result: CallResult, *, completed_at_ms: int) -> GatewayCallCompleted:
    """Return the record for `gateway.results.v1` of this request's result."""
    return GatewayCallCompleted(
        origin_id=request.origin_id,
        order_id=request.order_id,
        op_id=request.op_id,
        kind=request.kind,
        attempt=request.attempt,
        call_number=request.call_number,
        gateway=request.gateway,
        account=request.account,
        outcome=result.outcome,
        gateway_reference=result.gateway_reference,
        confirmed_amount_minor=result.confirmed_amount_minor,
        confirmed_currency=result.confirmed_currency,
        action_url=result.action_url,
        error=result.error,
        raw=result.raw,
        # The same id twice would cost each result its length, and tell nothing.
        payment_reference=None if result.payment_reference == result.gateway_reference else result.payment_reference,
        replayed=result.replayed,
        completed_at_ms=completed_at_ms,
        occurred_at_ms=result.occurred_at_ms,
        case_reference=result.case_reference,
    )


def weakened_for_resend(request: GatewayCallRequested, result: CallResult) -> CallResult:
    """Return the result as it counts when this request may have been sent before (a redelivery after a crash).

    That a second sending was refused, throttled or found unauthorized says nothing about the first one, which may have
    been carried out: NOT_EXECUTED becomes UNKNOWN, and an inquiry finds out. What the gateway said about the key itself
    stands, and so does what an inquiry found. Calling it twice is safe.
    """
    if request.kind is CallKind.INQUIRE or result.outcome is not Outcome.NOT_EXECUTED or result.replayed:
        return result
    return dataclasses.replace(result, outcome=Outcome.UNKNOWN)


def window_open(capabilities: Capabilities, request: GatewayCallRequested, *, now_ms: int) -> bool:
    """Return whether the gateway still honours the request's key, so that sending it again cannot charge twice.

    Outside the window only an inquiry may be made (DESIGN.md, 'What is promised'). The window counts from
    `first_requested_at_ms`, and ends WINDOW_MARGIN_MS early.
    """
    if request.kind not in capabilities.key_window_ms:
        return False
    window_ms = capabilities.key_window_ms[request.kind]
    return window_ms is None or now_ms - request.first_requested_at_ms < window_ms - WINDOW_MARGIN_MS


def allow_list(*paths: str) -> AllowList:
    """Return the allow-list of these members of a gateway's answers, with dots between: `failure.code`.

    A list is looked into: `items.id` is the `id` of each item. Name no member that holds free text or a fact of the
    payer: names, e-mail addresses and what a card is called stay out of the log because nobody lists them.
    """
    below: dict[str, list[str]] = {}
    for path in paths:
        first, _, rest = path.partition(".")
        below.setdefault(first, []).extend([rest] if rest else [])
    return {first: allow_list(*rests) for first, rests in below.items()}


def kept_of(answer: bytes, allowed: AllowList, *, secrets: Sequence[str]) -> str:
    """Return what of a gateway's answer is kept for a person: its allowed members as JSON, at most MAX_RAW_CHARS.

    Args:
        answer: the body as it came.
        allowed: what may be kept of it (`allow_list`).
        secrets: what must not be kept wherever the gateway repeats it, such as the token.
    """
    try:
        parsed: object = orjson.loads(answer)
    except orjson.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        return f"({len(answer)} bytes that are no JSON object)"
    text = orjson.dumps(_allowed(parsed, allowed, secrets)).decode()
    return text if len(text) <= MAX_RAW_CHARS else text[: MAX_RAW_CHARS - 1] + "…"


def _allowed(value: object, allowed: AllowList, secrets: Sequence[str]) -> object:
    match value:
        case dict():
            return {name: _allowed(value[name], below, secrets) for name, below in allowed.items() if name in value}
        case list():
            return [_allowed(item, allowed, secrets) for item in value[:MAX_RAW_ITEMS]]
        case _ if allowed:
            return None  # members of an object are listed, and this is none
        case str():
            for secret in filter(None, secrets):  # before the cut, so that no half of a secret is left at the end
                value = value.replace(secret, "[redacted]")
            return value if len(value) <= MAX_RAW_VALUE_CHARS else value[: MAX_RAW_VALUE_CHARS - 1] + "…"
        case _:
            return value
