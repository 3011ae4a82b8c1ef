"""Our reference at Adyen: the operation's id and its kind, `op_….sale`, of at most 80 characters and without a colon.

Adyen gives it back as `merchantReference`: in a notice about a payment, that of the payment. In one about a capture,
a cancel or a refund it is what that request named, or else the payment's: the accounts' settings and the years decide.
The kind in it tells the two apart, and tells of an authorisation whether it was captured at once.
"""

import re
from dataclasses import dataclass
from typing import Final

from schemas.identifiers import OpId
from schemas.vocabulary import CallKind

_OURS: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.(authorize|sale|capture|void|refund)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a reference of ours says."""

    op_id: OpId
    kind: CallKind


def reference_of(op_id: OpId, kind: CallKind) -> str:
    """Return what this operation is called at Adyen; its completion and its inquiry name nothing."""
    return f"{op_id}.{kind.value}"


def named_by(reference: str | None) -> Named | None:
    """Return what the reference says; None when it is not one of ours."""
    found = None if reference is None else _OURS.fullmatch(reference)
    return None if found is None else Named(op_id=OpId(found[1]), kind=CallKind(found[2]))
