"""Between the orders agent and the executor: `gateway.requests.v1`, `gateway.results.v1`, `gateway.webhooks.v1`."""

from dataclasses import dataclass

from schemas.identifiers import DEFAULT_ACCOUNT, AccountName, GatewayName, OpId, OrderId, OriginId, PaymentId
from schemas.quick_init import quick_init
from schemas.records.commands import NamedText, Payer
from schemas.vocabulary import CallKind, DeclineClass, Outcome, RetryAdvice


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class OperationError:
    """Why an operation did not succeed, in the engine's words and in the gateway's."""

    code: str  # the unified code, such as `insufficient_funds`
    decline_class: DeclineClass | None  # only of a decline
    gateway_code: str | None
    message: str  # for a person; never holds a token or card data
    advice: str | None  # the network's or gateway's own advice, as it came
    retry: RetryAdvice
    retry_after_ms: int | None


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class CallDetails:
    """What of a command its gateway alone needs. It stands on the log in the command, and nowhere else."""

    token_kind: str | None = None  # in the gateway's words; of a token that was given for this gateway
    payer_reference: str | None = None  # whose token it is
    payer: Payer | None = None
    return_url: str | None = None
    statement_descriptor: str | None = None
    metadata: tuple[NamedText, ...] = ()
    merchant_initiated: bool = False
    allow_partial: bool = False
    return_parameters: tuple[NamedText, ...] = ()  # of a completion: what the payer came back with


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCallRequested:
    """One call the executor owes. Sent again after a crash: `gateway_key` makes it the same call."""

    origin_id: OriginId
    order_id: OrderId
    payment_id: PaymentId
    op_id: OpId
    kind: CallKind
    inquired_kind: CallKind | None  # of an inquiry: what it asks about
    attempt: int  # from 1; a new attempt is a new gateway key, perhaps at another gateway
    call_number: int  # from 1, counts every call of this operation, inquiries included
    gateway: GatewayName
    gateway_key: str
    amount_minor: int
    currency: str
    token: str | None  # authorize and sale only
    payment_reference: str | None  # the gateway's id of the payment this call works on
    own_reference: str | None  # of an inquiry: the gateway's id of the inquired operation, when known
    final: bool  # of a capture: release the rest
    first_requested_at_ms: int  # of this attempt: the gateway's idempotency window runs from here
    requested_at_ms: int
    account: AccountName = DEFAULT_ACCOUNT  # at the gateway: whose credentials make the call
    order_reference: str | None = None  # the gateway's id of the order that the payment stands in, where it has one
    capture_reference: str | None = (
        None  # of a refund: the gateway's id of the capture it draws from, where it wants one
    )
    repeated: bool = False  # asked for again after a crash: the first copy may be on its way, made, or lost
    command_offset: int | None = None  # where the rest stands, in this partition of the commands; None: it needs none
    details: CallDetails | None = None  # None on the log: the executor reads them, and the token, from the command
    opening_op_id: OpId | None = (
        None  # of a completion or a void: what opened its payment, our reference at the gateway
    )
    opening_kind: CallKind | None = None  # of a void: the kind of what opened its payment, part of that reference


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCallCompleted:
    """What one gateway call came to."""

    origin_id: OriginId
    order_id: OrderId
    op_id: OpId
    kind: CallKind
    attempt: int
    call_number: int
    gateway: GatewayName
    outcome: Outcome
    gateway_reference: str | None  # the gateway's id of what the operation made
    confirmed_amount_minor: int | None
    confirmed_currency: str | None
    action_url: str | None  # of REQUIRES_ACTION: where the payer goes
    error: OperationError | None
    raw: str | None  # what of the gateway's answer may be kept: the members of an allow-list, cut to a limit
    completed_at_ms: int
    account: AccountName = DEFAULT_ACCOUNT  # at the gateway: the one that was called
    payment_reference: str | None = None  # its id of the payment that this belongs to, where that is another
    replayed: bool = False  # the answer was stored under the key by an earlier call, and will be given again
    occurred_at_ms: int | None = None  # when it came to this, by the gateway's own clock; None: it does not say
    case_reference: str | None = None  # of REVERSED: the gateway's id of it, the same in every word about it
    sole: bool = False  # of DECLINED: no other copy of the call was made, so that nothing can be held there


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookHeader:
    """One HTTP header of a webhook, name in lower case."""

    name: str
    value: str


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookReceived:
    """A gateway's webhook, verified on its raw bytes and kept raw; translated inside the stream.

    It is appended once for each order, or reference, that items of it are about; of one that is about nobody all three
    fields are None. Whoever takes it takes the items of this order or reference alone.
    """

    gateway: GatewayName
    origin_id: OriginId | None
    order_id: OrderId | None
    gateway_reference: str | None  # of items that name no order; with it once the references index has found the order
    headers: tuple[WebhookHeader, ...]
    body: bytes
    received_at_ms: int
    account: AccountName = DEFAULT_ACCOUNT  # at the gateway: the one whose secret it was signed with
