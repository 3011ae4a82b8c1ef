"""Keeps card data out: a request that holds a card number or a security code ends here, with 422.

Called on every JSON body before it is validated, and on the headers that reach the log. The finding itself is in
`schemas.card_numbers`, which the orders agent uses for direct producers too. What was found is never logged, echoed or
appended: not the value, and not the name of a field unless it is one of ours (a client may have put the number there).
"""

from typing import Final

from http_ingress.representation.problems import FieldFault, ProblemCode, ProblemError
from schemas.card_numbers import find_card_number, holds_card_number
from schemas.strict_json import JsonValue

_OUR_FIELDS: Final = frozenset(
    {"originId", "orderId", "amount", "currency", "token", "capture", "paymentId", "final", "cvv", "cvc", "track"}
)
_ADVICE: Final = "send a gateway's token; card numbers and security codes must not come here"


def check_body(members: dict[str, JsonValue]) -> None:
    """Return if the body holds no card data. Raises: ProblemError (422)."""
    path = find_card_number(members)
    if path is None:
        return
    name = path.rpartition(".")[2]
    faults = (FieldFault(pointer=f"#/{name}", detail="holds card data"),) if name in _OUR_FIELDS else ()
    raise ProblemError(ProblemCode.CARD_NUMBER, _ADVICE, faults=faults)


def check_header(value: str) -> None:
    """Return if a header that reaches the log holds no card number. Raises: ProblemError (422)."""
    if holds_card_number(value):
        raise ProblemError(ProblemCode.CARD_NUMBER, _ADVICE)
