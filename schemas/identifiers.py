"""Identifiers: their types, how they are derived, and what they may look like.

Everything here is deterministic, so that a replay names things as the first run did (DESIGN.md, "Identity").
Called by the ingress (payment ids, operation ids), the domain (event ids) and the gateway executor (gateway keys).
"""

import base64
import hashlib
import re
import uuid
from typing import Final, NewType

OriginId = NewType("OriginId", str)
OrderId = NewType("OrderId", str)
IdempotencyKey = NewType("IdempotencyKey", str)
OpId = NewType("OpId", str)
PaymentId = NewType("PaymentId", str)
RefundId = NewType("RefundId", str)
CommandId = NewType("CommandId", str)
EventId = NewType("EventId", str)
GatewayName = NewType("GatewayName", str)
OperatorName = NewType("OperatorName", str)
DecisionId = NewType("DecisionId", str)
AccountName = NewType("AccountName", str)
GatewayRoute = NewType("GatewayRoute", str)
Fingerprint = NewType("Fingerprint", str)

MAX_ORIGIN_ID_CHARS = 64
MAX_ORDER_ID_CHARS = 128
MAX_IDEMPOTENCY_KEY_CHARS = 255
MAX_TOKEN_CHARS = 255
MAX_COMMAND_ID_CHARS = 128
MAX_OPERATOR_NAME_CHARS = 64
MAX_OP_ID_CHARS = 64
MAX_DECISION_ID_CHARS = 64
MAX_ACCOUNT_CHARS = 32
SHORT_HASH_CHARS = 16

DEFAULT_ACCOUNT: Final = AccountName("default")
"""The account at a gateway that is meant where none is named."""

# Visible ASCII without the separator of row keys and claim keys; no space, so that a log line stays one field.
_VISIBLE = re.compile(r"[!-{}-~]+")
_ACCOUNT = re.compile(rf"[a-z0-9]{{1,{MAX_ACCOUNT_CHARS}}}")
_NAMESPACE = uuid.UUID("6f0c6c8e-2b55-5c0e-9d0c-5b8a6f3f7a51")  # fixed for ever: event ids are derived from it
_NAMESPACE_BYTES = _NAMESPACE.bytes
_VARIANTS = {
    f"{digit:x}": f"{digit & 0b0011 | 0b1000:x}" for digit in range(16)
}  # RFC 9562: the two highest bits are 10
PAYMENT_PREFIX = "pay_"
_REFUND_PREFIX = "re_"


class InvalidIdentifierError(ValueError):
    """An identifier that nobody could have been given, or that breaks its rule; the message says which."""


def _checked(value: str, *, what: str, max_chars: int) -> str:
    if not 1 <= len(value) <= max_chars:
        raise InvalidIdentifierError(f"{what} must have 1 to {max_chars} characters")
    if not _VISIBLE.fullmatch(value):
        raise InvalidIdentifierError(f"{what} must be visible ASCII without space and '|'")
    return value


def origin_id(value: str) -> OriginId:
    """Return the origin (merchant) id. Raises: InvalidIdentifierError."""
    return OriginId(_checked(value, what="originId", max_chars=MAX_ORIGIN_ID_CHARS))


def order_id(value: str) -> OrderId:
    """Return the order id, visible ASCII without `|` as all of these. Raises: InvalidIdentifierError."""
    return OrderId(_checked(value, what="orderId", max_chars=MAX_ORDER_ID_CHARS))


def idempotency_key(value: str) -> IdempotencyKey:
    """Return the idempotency key, as its HTTP header or record has it. Raises: InvalidIdentifierError."""
    return IdempotencyKey(_checked(value, what="Idempotency-Key", max_chars=MAX_IDEMPOTENCY_KEY_CHARS))


def operator_name(value: str) -> OperatorName:
    """Return the name of an operator, the owner of a key of that kind. Raises: InvalidIdentifierError."""
    return OperatorName(_checked(value, what="the operator's name", max_chars=MAX_OPERATOR_NAME_CHARS))


def operation_id(value: str) -> OpId:
    """Return an operation's id, as a caller names it. Raises: InvalidIdentifierError."""
    return OpId(_checked(value, what="the operation's id", max_chars=MAX_OP_ID_CHARS))


def decision_id(value: str) -> DecisionId:
    """Return the id of a decision. Raises: InvalidIdentifierError."""
    return DecisionId(_checked(value, what="the decision's id", max_chars=MAX_DECISION_ID_CHARS))


def gateway_token(value: str, *, max_chars: int = MAX_TOKEN_CHARS) -> str:
    """Return a gateway's token for a payment method. Raises: InvalidIdentifierError."""
    return _checked(value, what="token", max_chars=max_chars)


def command_id(value: str) -> CommandId:
    """Return the CloudEvents id of a command. Raises: InvalidIdentifierError."""
    return CommandId(_checked(value, what="ce_id", max_chars=MAX_COMMAND_ID_CHARS))


def account_name(value: str) -> AccountName:
    """Return the name of an account at a gateway: lower-case letters and digits. Raises: InvalidIdentifierError."""
    if _ACCOUNT.fullmatch(value) is None:
        raise InvalidIdentifierError(
            f"an account's name must be 1 to {MAX_ACCOUNT_CHARS} lower-case letters and digits"
        )
    return AccountName(value)


def gateway_route(gateway: GatewayName, account: AccountName) -> GatewayRoute:
    """Return what policies and plans call this account: `gateway`, or `gateway/account` when it is not the default."""
    return GatewayRoute(gateway if account == DEFAULT_ACCOUNT else f"{gateway}/{account}")


def parts_of(route: GatewayRoute) -> tuple[GatewayName, AccountName]:
    """Return the gateway and the account that a policy or a plan names; whether there are such is not looked at."""
    gateway, separator, account = route.partition("/")
    return GatewayName(gateway), AccountName(account) if separator else DEFAULT_ACCOUNT


def _digest(*parts: str) -> bytes:
    # Each part is preceded by its length, so that no two different lists of parts give the same bytes.
    joined = b"".join([len(raw).to_bytes(4, "big") + raw for raw in map(str.encode, parts)])
    return hashlib.sha256(joined).digest()


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def fingerprint(*parts: str) -> Fingerprint:
    """Return the fingerprint of a command's canonical body, given as its kind and its fields in a fixed order."""
    return Fingerprint(_base64url(_digest(*parts)))


def op_id(origin: OriginId, key: IdempotencyKey, order: OrderId, body: Fingerprint) -> OpId:
    """Return the operation's id: the same wish under the same key is the same operation, for ever."""
    return OpId("op_" + _base64url(_digest(origin, key, order, body))[:32])


def decision_of(operator: OperatorName, key: IdempotencyKey, order: OrderId) -> DecisionId:
    """Return the id of the decision that an operator asks for under a key: the same wish is one decision, for ever.

    Nobody can ask for the id of another's decision: the operator is part of it.
    """
    return DecisionId("dec_" + _base64url(_digest(operator, key, order))[:32])


def short_hash(value: str) -> str:
    """Return 16 URL-safe characters (96 bits) of the value's SHA-256."""
    return _base64url(_digest(value))[:SHORT_HASH_CHARS]


def payment_id(order: OrderId, op: OpId) -> PaymentId:
    """Return the self-routing id of the payment that this operation opened."""
    return PaymentId(f"{PAYMENT_PREFIX}{_base64url(order.encode())}_{short_hash(op)}")


def refund_id(order: OrderId, op: OpId) -> RefundId:
    """Return the self-routing id of the refund that this operation is."""
    return RefundId(f"{_REFUND_PREFIX}{_base64url(order.encode())}_{short_hash(op)}")


def order_of(identifier: str) -> OrderId:
    """Return the order that a payment id or a refund id carries. Raises: InvalidIdentifierError."""
    for prefix in (PAYMENT_PREFIX, _REFUND_PREFIX):
        body = identifier.removeprefix(prefix)
        encoded, separator, tail = (
            body[: -SHORT_HASH_CHARS - 1],
            body[-SHORT_HASH_CHARS - 1 :][:1],
            body[-SHORT_HASH_CHARS:],
        )
        if body != identifier and separator == "_" and len(tail) == SHORT_HASH_CHARS and encoded:
            return _decoded_order(encoded)
    raise InvalidIdentifierError("not an id of this engine")


def order_of_payment(identifier: str) -> OrderId:
    """Return the order that a payment id carries. Raises: InvalidIdentifierError, also for the id of a refund."""
    if not identifier.startswith(PAYMENT_PREFIX):
        raise InvalidIdentifierError("not a payment id of this engine")
    return order_of(identifier)


def _decoded_order(encoded: str) -> OrderId:
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        order = order_id(raw.decode("ascii"))
    except ValueError as error:  # base64's, the decoder's or our own
        raise InvalidIdentifierError("not an id of this engine") from error
    if _base64url(raw) != encoded:
        raise InvalidIdentifierError("not an id of this engine")  # a second spelling of the same order
    return order


def event_id(command: str, transition: str) -> EventId:
    """Return the deterministic id of the event that this transition of this command's operation emits."""
    # What `uuid.uuid5` does, at a third of its cost: a payment has some twelve such ids.
    name = f"{command}|{transition}".encode()
    digest = hashlib.sha1(_NAMESPACE_BYTES + name, usedforsecurity=False).hexdigest()
    variant = _VARIANTS[digest[16]]
    return EventId(f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}")


def gateway_key(op: OpId, attempt: int) -> str:
    """Return the idempotency key a gateway is given: the same for every redelivery of the same attempt."""
    return f"{op}-{attempt}"


def row_key(origin: OriginId, order: OrderId) -> bytes:
    """Return the key of an order's row in its table, UTF-8. No two orders share one: neither part can hold the `|`."""
    return f"{origin}|{order}".encode()


def claim_key(origin: OriginId, key: IdempotencyKey) -> bytes:
    """Return the key of a claim: on the claims topic and in the claims table alike."""
    return f"{origin}|{key}".encode()


def reference_key(gateway: GatewayName, account: AccountName, reference: str) -> bytes:
    """Return the key under which a gateway's reference is looked up: names of gateways and accounts hold no `|`."""
    return f"{gateway}|{account}|{reference}".encode()
