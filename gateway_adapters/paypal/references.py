"""Our reference at PayPal: what kind of operation, and which. Pure.

It stands in `custom_id` and `invoice_id`, of 127 characters each. A capture takes over its authorization's, and a
refund that is made at PayPal's own desk its capture's. So the reference says of which kind it is: one of another kind
than the object that carries it was inherited, and nobody asked for that object.

PayPal refuses a second payment with an `invoice_id` that was paid, unless the account allows it. That holds also when
its window for the request id has passed.
"""

from typing import Final

from schemas import identifiers
from schemas.identifiers import InvalidIdentifierError, OpId
from schemas.vocabulary import CallKind

SEPARATOR: Final = ":"
MAX_CHARS: Final = 127

_KINDS: Final = {kind.value: kind for kind in (CallKind.AUTHORIZE, CallKind.SALE, CallKind.CAPTURE, CallKind.REFUND)}


def reference_of(kind: CallKind, op_id: OpId) -> str:
    """Return our reference of the operation."""
    return f"{kind.value}{SEPARATOR}{op_id}"


def operation_in(*references: str | None) -> tuple[CallKind, OpId] | None:
    """Return the kind and the operation that the first of these names; None: none is ours."""
    for reference in references:
        kind, separator, op_id = (reference or "").partition(SEPARATOR)
        if separator and kind in _KINDS:
            try:
                return _KINDS[kind], identifiers.operation_id(op_id)
            except InvalidIdentifierError:
                continue
    return None
