"""What waits, for its gateway or for a person: the compacted topic `payments.waiting.v1`, read whole.

Called by `payment-engine payments list` and, to find whose a payment is, by `payments decide`.
"""

from collections.abc import Collection

import structlog

from schemas.identifiers import OriginId, PaymentId
from schemas.messages import DecodeError, MessageCodec
from schemas.records.decisions import PaymentWaiting
from schemas.topics import WAITING
from schemas.vocabulary import WaitingFor
from streams.operator_tools.log import Log, LogRecord

MAX_WAITING = 100_000
"""Operations that are listed. More than that wait only when a gateway has been down for long; the oldest are shown."""

_log = structlog.get_logger(__name__)


def list_waiting(log: Log, codec: MessageCodec) -> tuple[PaymentWaiting, ...]:
    """Return every operation that waits now, those first that have waited longest. Changes nothing.

    Raises:
        NotFoundError: There is no such topic.
        UnreachableError: The broker does not answer.
    """
    known: dict[bytes, PaymentWaiting] = {}
    for at in log.read(WAITING):
        key = at.key or b""
        known.pop(key, None)
        if at.value is not None:
            record = _read(codec, at)
            if record is not None:
                known[key] = record
    ordered = sorted(known.values(), key=lambda each: (each.since_ms, each.op_id))
    return tuple(ordered[:MAX_WAITING])


def _read(codec: MessageCodec, at: LogRecord) -> PaymentWaiting | None:
    try:
        _, record = codec.decode(at.value, at.headers)
    except DecodeError as error:
        _log.warning("waiting_undecodable", partition=at.partition, offset=at.offset, reason=error.reason)
        return None
    return record if isinstance(record, PaymentWaiting) else None


def chosen(
    waiting: Collection[PaymentWaiting], *, reasons: Collection[WaitingFor], origin: str | None
) -> tuple[PaymentWaiting, ...]:
    """Return those that wait for one of the reasons, and are of this origin; no reason or no origin means all."""
    return tuple(
        each
        for each in waiting
        if (not reasons or set(reasons) & set(each.waits_for)) and origin in {None, each.origin_id}
    )


def origin_of_waiting(waiting: Collection[PaymentWaiting], payment: PaymentId) -> OriginId | None:
    """Return whose payment this is, if something of it waits."""
    return next((each.origin_id for each in waiting if each.payment_id == payment), None)
