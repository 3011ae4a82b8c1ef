"""The claim state machine: the first claim of an idempotency key in log order wins.

Called by the claims agent for every record of `idempotency.claims.v1`, its own sweep's included, so that one writer
stays one writer. The plan of the claim that won goes into every verdict: a replay under a newer policy
cannot change it.
"""

from schemas.records.claims import ClaimDecided, ClaimRequested, ClaimRow
from streams.domain.limits import DEFAULT_RULES, RULES_VERSION, Rules


def decide_claim(row: ClaimRow | None, message: ClaimRequested, now_ms: int) -> tuple[ClaimRow, ClaimDecided]:
    """Return the key's row after this message, and the verdict to send. `now_ms`: when the log took the message.

    The same operation always gets the same verdict with the same plan, as long as its claim lives; so asking twice, or
    handling a record twice, is safe.
    """
    if row is None:
        row = ClaimRow(
            op_id=message.op_id,
            order_id=message.order_id,
            plan=message.plan,
            claimed_at_ms=now_ms,
            rules_version=RULES_VERSION,
        )
    verdict = ClaimDecided(
        origin_id=message.origin_id,
        idempotency_key=message.idempotency_key,
        order_id=message.order_id,
        op_id=message.op_id,
        granted=row.op_id == message.op_id,
        holder_order_id=row.order_id,
        holder_op_id=row.op_id,
        plan=row.plan,
        decided_at_ms=now_ms,
    )
    return row, verdict


def expire_claim(row: ClaimRow | None, now_ms: int, rules: Rules = DEFAULT_RULES) -> ClaimRow | None:
    """Return the key's row after a sweep has asked for its end: None when its life is over (write a tombstone).

    `now_ms` is the log's time of the request: the sweep asks by its own clock, which may be wrong. The row alone
    decides, so that a claim that was made anew since stays.
    """
    return None if row is None or now_ms >= claim_expires_at_ms(row, rules) else row


def claim_expires_at_ms(row: ClaimRow, rules: Rules = DEFAULT_RULES) -> int:
    """Return from when on the sweep may ask to forget this claim."""
    return row.claimed_at_ms + rules.claim_life_ms
