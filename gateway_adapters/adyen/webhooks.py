"""What Adyen's notices say, in the engine's words. Pure: a replay translates one as the first run did.

Called by the orders agent and the webhook route, through `AdyenTranslator`. An item names what it is about in up to
three ways: by our reference (`references`), by its own (`pspReference`), and by its payment's (`originalReference`). A
capture that fails later comes under the capture's own reference; what is told of a dispute comes under the dispute's.

* An item that is about nothing of ours, or that no rule below knows, is a notice about nobody: it is counted.
* So is one whose values hold a colon. It is authentic like any other; the signature joins values with colons, so it
  could also have been signed for others.
* Adyen may capture again by itself what had failed: `CAPTURE`, `success: true`, 'Transaction Recaptured'. It counts
  from then on, as any later success does.
* The events of a dispute share its reference, which is their case. Where an account does not send
  `originalReference` with each of them, there is no case, and a won one gives nothing back (docs/gateways/adyen.md).

Source: https://docs.adyen.com/development-resources/webhooks/webhook-types
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

import orjson

from gateway_adapters.adyen import amounts, signature, wire
from gateway_adapters.adyen.references import Named, named_by
from gateway_adapters.adyen.translate import DECLINES, NAME
from gateway_adapters.adyen.wire import NoticeItem, Notification, WireError
from gateway_adapters.contract import GatewayNotice, RawHeaders, WebhookTranslator
from gateway_adapters.errors import Code, UntranslatableError, decline_for
from schemas.identifiers import OpId
from schemas.records.gateway import OperationError
from schemas.vocabulary import CallKind, Outcome

SUCCESS: Final = "true"
OPENING: Final = frozenset({CallKind.AUTHORIZE, CallKind.SALE})

DISPUTES: Final[Mapping[str, Outcome]] = MappingProxyType(
    {
        "REQUEST_FOR_INFORMATION": Outcome.DISPUTE_OPENED,
        "NOTIFICATION_OF_CHARGEBACK": Outcome.DISPUTE_OPENED,
        "DISPUTE_OPENED_WITH_CHARGEBACK": Outcome.DISPUTE_OPENED,  # told instead of it, where none came before
        "CHARGEBACK": Outcome.REVERSED,  # the money is gone; that it is disputed still was told before
        "CHARGEBACK_REVERSED": Outcome.DISPUTE_WON,
        "ISSUER_RESPONSE_TIMEFRAME_EXPIRED": Outcome.DISPUTE_WON,
        "PREARBITRATION_WON": Outcome.DISPUTE_WON,
        "SCHEME_ARBITRATION_WON": Outcome.DISPUTE_WON,
        "SECOND_CHARGEBACK": Outcome.DISPUTE_LOST,
        "PREARBITRATION_LOST": Outcome.DISPUTE_LOST,
        "SCHEME_ARBITRATION_LOST": Outcome.DISPUTE_LOST,
        "DISPUTE_DEFENSE_PERIOD_ENDED": Outcome.DISPUTE_LOST,
    }
)
"""https://docs.adyen.com/risk-management/disputes-api/dispute-notifications"""

TECHNICAL_CANCEL: Final = "TECHNICAL_CANCEL"
"""What a void by our reference is told as."""

MODIFICATIONS: Final[Mapping[str, CallKind]] = MappingProxyType(
    {
        "CAPTURE": CallKind.CAPTURE,
        "CANCELLATION": CallKind.VOID,
        TECHNICAL_CANCEL: CallKind.VOID,
        "REFUND": CallKind.REFUND,
    }
)
CANCEL_OR_REFUND: Final = "CANCEL_OR_REFUND"
ACTION: Final = "modification.action"
ACTIONS: Final[Mapping[str, CallKind]] = MappingProxyType({"cancel": CallKind.VOID, "refund": CallKind.REFUND})
"""What a `CANCEL_OR_REFUND` was, which this engine never asks for and a person in Adyen's pages may."""

FAILED_LATER: Final[Mapping[str, CallKind]] = MappingProxyType(
    {
        "CAPTURE_FAILED": CallKind.CAPTURE,
        "REFUND_FAILED": CallKind.REFUND,
        "REFUNDED_REVERSED": CallKind.REFUND,
    }
)


class AdyenTranslator(WebhookTranslator):
    """The pure half of Adyen's webhooks, as the port wants it."""

    webhook_headers = frozenset({signature.HEADER})

    def parse_webhook(self, headers: RawHeaders, body: bytes) -> tuple[GatewayNotice, ...]:
        """Return what the webhook says. Raises: UntranslatableError."""
        return notices_of(headers, body)


def notices_of(
    headers: RawHeaders, body: bytes, *, merchant_account: str | None = None, live: bool | None = None
) -> tuple[GatewayNotice, ...]:
    """Return what a webhook says, one notice for each item. One that is signed as a whole may be of another kind: none.

    Args:
        headers: of the delivery.
        body: as it came.
        merchant_account: whose items are ours; others of the company may share the webhook and its key. None: all.
        live: whether ours are of Adyen's live system. None: of either.

    Raises:
        UntranslatableError: it cannot be read.
    """
    try:
        parsed: object = orjson.loads(body)
        if signature.HEADER in headers and isinstance(parsed, dict) and "notificationItems" not in parsed:
            return ()
        said = wire.read(Notification, parsed)
        foreign = live is not None and said.live != str(live).lower()
        return tuple(
            _about_nobody(each)
            if foreign or merchant_account not in {None, each.merchant_account_code}
            else _notice(each)
            for each in said.items
        )
    except orjson.JSONDecodeError:
        raise UntranslatableError("adyen webhook: not JSON") from None
    except (WireError, amounts.InexactAmountError) as error:
        raise UntranslatableError(f"adyen webhook: {error}") from error


def _notice(item: NoticeItem) -> GatewayNotice:
    if any(":" in value for value in signature.signed_values(item)):
        return _about_nobody(item)
    named = named_by(item.merchant_reference)
    for told in _RULES:
        notice = told(item, named)
        if notice is not None:
            return notice
    return _about_nobody(item)


Rule = Callable[[NoticeItem, Named | None], GatewayNotice | None]


def _of_payment(item: NoticeItem, named: Named | None) -> GatewayNotice | None:
    """What became of a payment's authorisation; None unless the payment is ours."""
    if named is None or named.kind not in OPENING:
        return None
    said = _said_of_payment(item)
    if said is None:
        return None
    outcome, problem = said
    # That a hold ran out may come under a reference of its own, and name the payment as a modification does.
    payment = item.original_reference if outcome is Outcome.EXPIRED else None
    payment = payment or item.psp_reference
    return _made(
        item,
        outcome,
        op_id=named.op_id,
        kind=named.kind,
        reference=payment,
        payment=payment,
        error=problem,
        # What is told of a hold that runs out is what it once was.
        confirms=outcome is not Outcome.EXPIRED,
    )


def _said_of_payment(item: NoticeItem) -> tuple[Outcome, OperationError | None] | None:
    match item.event_code:
        case "AUTHORISATION" if item.success == SUCCESS:
            return Outcome.SUCCEEDED, None
        case "AUTHORISATION":
            return Outcome.DECLINED, DECLINES.decline_of(item.reason)
        case "PENDING":
            return Outcome.PENDING, None
        case "EXPIRE":
            return Outcome.EXPIRED, decline_for(Code.AUTHORIZATION_EXPIRED, gateway_code=item.event_code)
        case "OFFER_CLOSED":
            return Outcome.DECLINED, decline_for(Code.ACTION_EXPIRED, gateway_code=item.event_code)
        case _:
            return None


def _of_modification(item: NoticeItem, named: Named | None) -> GatewayNotice | None:
    """What became of a capture, cancel or refund: ours, or one of the merchant's own in Adyen's pages."""
    kind = MODIFICATIONS.get(item.event_code)
    if item.event_code == CANCEL_OR_REFUND:
        kind = ACTIONS.get(str((item.additional_data or {}).get(ACTION)))
        if kind is None:
            return _of_unsaid_action(item)
    if item.event_code == TECHNICAL_CANCEL and named is not None:
        return _of_technical_cancel(item, named)
    if kind is None or item.original_reference is None:
        return None
    if kind is CallKind.CAPTURE and named is not None and named.kind is CallKind.SALE:
        return _of_sale(item, named, Outcome.SUCCEEDED if item.success == SUCCESS else Outcome.REVERSED)
    outcome, error = _verdict_of(item)
    return _made_to(item, kind, named, outcome, error)


def _of_technical_cancel(item: NoticeItem, named: Named) -> GatewayNotice:
    """What became of a void by our reference. Adyen may name no payment with it, and then knows of none to cancel.

    Where an account's notices name the payment by our reference, that one is in the index, and Adyen's may not be.
    """
    outcome, error = _verdict_of(item)
    notice = _made_to(item, CallKind.VOID, named, outcome, error)
    return notice if named.kind is CallKind.VOID else replace(notice, payment_reference=named.op_id)


def _verdict_of(item: NoticeItem) -> tuple[Outcome, OperationError | None]:
    if item.success == SUCCESS:
        return Outcome.SUCCEEDED, None
    # That Adyen did not do it is a refusal, and no decline of the payer's bank: no code of those has a meaning here.
    return Outcome.DECLINED, decline_for(Code.UNKNOWN, gateway_code=item.reason)


def _of_unsaid_action(item: NoticeItem) -> GatewayNotice | None:
    """A hold was let go or money given back, and nothing says which: no operation is named, so a person is asked."""
    if item.success != SUCCESS or item.original_reference is None:
        return None
    return _made(
        item,
        Outcome.REVERSED,
        op_id=None,
        kind=None,
        reference=item.psp_reference,
        payment=item.original_reference,
        error=decline_for(Code.FAILED_LATE, gateway_code=item.event_code),
    )


def _of_failure(item: NoticeItem, named: Named | None) -> GatewayNotice | None:
    """A capture or a refund that had succeeded, and was then refused by the scheme."""
    kind = FAILED_LATER.get(item.event_code)
    if kind is None or item.original_reference is None:
        return None
    if kind is CallKind.CAPTURE and named is not None and named.kind is CallKind.SALE:
        return _of_sale(item, named, Outcome.REVERSED)
    problem = decline_for(Code.FAILED_LATE, gateway_code=item.event_code)
    return _made_to(item, kind, named, Outcome.REVERSED, problem, case=_failure_of(item))


def _of_sale(item: NoticeItem, named: Named, outcome: Outcome) -> GatewayNotice:
    """What became of the capture that Adyen makes of a sale by itself: it is told of the sale."""
    failed = outcome is Outcome.REVERSED
    return _made(
        item,
        outcome,
        op_id=named.op_id,
        kind=CallKind.SALE,
        reference=item.original_reference,
        payment=item.original_reference,
        error=decline_for(Code.FAILED_LATE, gateway_code=item.event_code) if failed else None,
        case=_failure_of(item) if failed else None,
    )


def _failure_of(item: NoticeItem) -> str:
    """Return the case of a failure: the same however often, and in which words, it is told."""
    return f"{item.psp_reference}.failed"


def _made_to(
    item: NoticeItem,
    kind: CallKind,
    named: Named | None,
    outcome: Outcome,
    error: OperationError | None = None,
    *,
    case: str | None = None,
) -> GatewayNotice:
    ours = named if named is not None and named.kind is kind else None
    return _made(
        item,
        outcome,
        op_id=None if ours is None else ours.op_id,
        kind=kind,
        # A failure that names our operation may come under a reference of its own, which is not the operation's.
        reference=None if ours is not None and outcome is Outcome.REVERSED else item.psp_reference,
        payment=item.original_reference,
        error=error,
        case=case,
    )


def _of_dispute(item: NoticeItem, named: Named | None) -> GatewayNotice | None:
    """What is told of a dispute. Of a hold no kind is said: the money is in its captures.

    It is about the payment that it names by Adyen's reference, whatever it says of ours: none is passed over.
    """
    outcome = DISPUTES.get(item.event_code)
    opening = named if named is not None and named.kind in OPENING else None
    if outcome is None or (opening is None and item.original_reference is None):
        return None
    payment = item.original_reference or item.psp_reference
    lost = outcome is Outcome.REVERSED
    return _made(
        item,
        outcome,
        op_id=None if opening is None else opening.op_id,
        kind=CallKind.SALE if opening is not None and opening.kind is CallKind.SALE else None,
        reference=payment,
        payment=payment,
        error=decline_for(Code.FAILED_LATE, gateway_code=item.event_code) if lost else None,
        case=None if item.original_reference is None else item.psp_reference,
    )


_RULES: Final[tuple[Rule, ...]] = (_of_payment, _of_modification, _of_failure, _of_dispute)


def _made(
    item: NoticeItem,
    outcome: Outcome,
    *,
    op_id: OpId | None,
    kind: CallKind | None,
    reference: str | None,
    payment: str | None,
    error: OperationError | None,
    case: str | None = None,
    confirms: bool = True,
) -> GatewayNotice:
    return GatewayNotice(
        gateway=NAME,
        notice_id=_notice_id(item),
        origin_id=None,
        order_id=None,
        op_id=op_id,
        kind=kind,
        outcome=outcome,
        gateway_reference=reference,
        payment_reference=payment,
        confirmed_amount_minor=amounts.from_adyen(item.amount.value, item.amount.currency) if confirms else None,
        confirmed_currency=item.amount.currency if confirms else None,
        error=error,
        occurred_at_ms=_told_at_ms(item),
        case_reference=case,
    )


def _about_nobody(item: NoticeItem) -> GatewayNotice:
    return GatewayNotice(
        gateway=NAME,
        notice_id=_notice_id(item),
        origin_id=None,
        order_id=None,
        op_id=None,
        kind=None,
        outcome=Outcome.PENDING,
        gateway_reference=None,
        payment_reference=None,
        confirmed_amount_minor=None,
        confirmed_currency=None,
        error=None,
        occurred_at_ms=0,
    )


def _notice_id(item: NoticeItem) -> str:
    return f"{item.event_code}.{item.psp_reference}.{item.success}.{item.event_date}"


def _told_at_ms(item: NoticeItem) -> int:
    """Return when it happened. Raises: WireError: the item does not say."""
    try:
        told = datetime.fromisoformat(item.event_date or "")
    except ValueError:
        told = None
    if told is None or told.tzinfo is None:
        raise WireError("eventDate must be a time with an offset")
    return int(told.timestamp() * 1000)
