"""The claim state machine: first write wins, verdicts never change, claims expire by their own writer."""

import dataclasses

from schemas.identifiers import IdempotencyKey, OpId, OrderId, OriginId
from schemas.records.claims import ClaimDecided, ClaimRequested, ClaimRow
from streams.domain.claims import claim_expires_at_ms, decide_claim, expire_claim
from streams.domain.limits import CLAIM_LIFE_MS, DEFAULT_RULES, RULES_VERSION
from tests.support.order_desk import plan

CLAIM = ClaimRequested(
    origin_id=OriginId("origin"),
    idempotency_key=IdempotencyKey("key"),
    order_id=OrderId("order-1"),
    op_id=OpId("op_1"),
    plan=plan("mock", version=1),
    requested_at_ms=1,
)
RIVAL = dataclasses.replace(CLAIM, order_id=OrderId("order-2"), op_id=OpId("op_2"), plan=plan("other", version=2))


def decided(row: ClaimRow | None, claim: ClaimRequested, now_ms: int = 10) -> tuple[ClaimRow, ClaimDecided]:
    return decide_claim(row, claim, now_ms)


def test_claim_is_granted_when_the_key_is_free() -> None:
    row, verdict = decided(None, CLAIM)
    assert verdict.granted
    assert (row.op_id, row.plan, row.claimed_at_ms) == (CLAIM.op_id, CLAIM.plan, 10)


def test_claim_says_which_rules_decided_it_and_keeps_that_when_it_comes_again() -> None:
    row, _ = decided(None, CLAIM)
    assert row.rules_version == RULES_VERSION
    earlier = dataclasses.replace(row, rules_version=RULES_VERSION - 1)
    assert decided(earlier, CLAIM)[0] == earlier


def test_claim_gets_the_same_verdict_and_the_first_plan_when_it_comes_again() -> None:
    row, first = decided(None, CLAIM)
    again, second = decided(row, dataclasses.replace(CLAIM, plan=plan("other", version=9)), 99)
    assert again is row
    assert dataclasses.replace(second, decided_at_ms=first.decided_at_ms) == first


def test_claim_is_refused_and_told_the_holder_when_another_operation_was_first() -> None:
    row, _ = decided(None, CLAIM)
    after, verdict = decided(row, RIVAL)
    assert after is row
    assert not verdict.granted
    assert (verdict.op_id, verdict.order_id) == (RIVAL.op_id, RIVAL.order_id)
    assert (verdict.holder_op_id, verdict.holder_order_id, verdict.plan) == (CLAIM.op_id, CLAIM.order_id, CLAIM.plan)


OVER_MS = 10 + CLAIM_LIFE_MS
"""When the life of a claim made at 10 ends."""


def test_claim_is_forgotten_when_the_sweep_asks_and_its_life_is_over() -> None:
    row, _ = decided(None, CLAIM)
    assert expire_claim(row, OVER_MS) is None
    assert expire_claim(None, OVER_MS) is None


def test_claim_stays_when_it_was_made_anew_since_the_sweep_saw_an_older_one() -> None:
    row, _ = decided(None, CLAIM, OVER_MS)
    assert expire_claim(row, OVER_MS) == row


def test_claim_stays_when_a_sweep_whose_clock_is_ahead_asks_before_its_life_is_over() -> None:
    row, _ = decided(None, CLAIM)
    assert expire_claim(row, OVER_MS - 1) == row
    longer = dataclasses.replace(DEFAULT_RULES, claim_life_ms=CLAIM_LIFE_MS + 1)
    assert expire_claim(row, OVER_MS, longer) == row


def test_claim_may_be_swept_when_its_life_is_over() -> None:
    row, _ = decided(None, CLAIM)
    assert claim_expires_at_ms(row) == 10 + CLAIM_LIFE_MS
