"""Keeps card data out: a request that holds a card number or a security code ends here, with 422.

Called on every JSON body before it is validated, once the caller is known and its rate is kept, and on the origin
and the ids that reach the log. The fields of a valid command are looked at once more, for disguises, by
`schemas.commands_validation`, which the orders agent uses for direct producers too. What was found is never logged,
echoed or appended: not the value, and not the name of a field unless it is one of ours (a client may have put the
number there).
"""

from typing import Final

from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError
from schemas.card_numbers import MAX_NODES, TooMuchToCheckError, find_card_number, holds_card_number
from schemas.identifiers import OrderId, OriginId
from schemas.strict_json import JsonValue

_OUR_FIELDS: Final = frozenset(
    [
        *("originId", "orderId", "amount", "currency", "token", "capture", "paymentId", "final", "cvv", "cvc", "track"),
        *("gateway", "kind", "value", "payerReference", "email", "reference", "ip", "acceptHeader", "userAgent"),
        *("language", "returnUrl", "statementDescriptor", "metadata", "parameters"),
    ]
)
_ADVICE: Final = "send a gateway's token; card numbers and security codes must not come here"


def check_body(members: dict[str, JsonValue]) -> None:
    """Return if the body holds no card data. Raises: ProblemError (422; 400 for more values than are looked at)."""
    try:
        path = find_card_number(members)
    except TooMuchToCheckError:
        raise ProblemError(ProblemCode.BAD_JSON, f"the body has more than {MAX_NODES} values") from None
    if path is not None:
        raise refusal(path.rpartition(".")[2])


def check_origin(origin: OriginId) -> None:
    """Return if the origin that a header names is no card number: it reaches the log. Raises: ProblemError (422)."""
    if holds_card_number(origin):
        raise refusal()


def check_given_id(value: str, order: OrderId) -> None:
    """Return if an id that this engine could have given holds no card number, nor the order in it. Raises: as above.

    Judged plainly: what hides one more cleverly was refused when the order was opened, and a payment that exists must
    stay within reach.
    """
    if holds_card_number(value) or holds_card_number(order):
        raise refusal()


def refusal(field: str | None = None) -> ProblemError:
    """Return the problem that names the field, if it is one of ours, and shows nothing of what was found."""
    faults = (FieldFault(pointer=f"#/{field}", detail="holds card data"),) if field in _OUR_FIELDS else ()
    return ProblemError(ProblemCode.CARD_NUMBER, _ADVICE, faults=faults)
