"""When orders, claims and parked webhooks say they are due, and what they say of it."""

from dataclasses import replace

import pytest

from gateway_adapters.mock.spec import CAPABILITIES
from schemas.identifiers import AccountName, OpId
from schemas.records.claims import ClaimRow
from schemas.records.orders import OrderRow
from schemas.records.references import KnownReference, ParkedWebhook
from schemas.vocabulary import CallKind
from streams.agents import dues
from streams.agents.dues import LOOK_MS, UNTOLD, Over, Owed, due_of_claim, due_of_order, due_of_parked, meaning_of
from streams.domain.claims import claim_expires_at_ms
from streams.domain.limits import DEFAULT_RULES
from streams.domain.order import longest_owed, order_ends_at_ms
from streams.domain.references import PARKED_FOR_MS
from streams.kafka.step import NEVER, Due
from tests.support.order_desk import MOCK, UNKNOWN, Desk, plan, sale
from tests.support.staged_life import valid_run

INDEXED = {MOCK: CAPABILITIES}


def _row(desk: Desk) -> OrderRow:
    assert desk.row is not None
    return desk.row


def _due(row: OrderRow) -> Due:
    return due_of_order(row, DEFAULT_RULES, INDEXED)


def test_every_row_of_a_run_is_due_within_a_minute_after_its_time_and_never_before() -> None:
    seen = set()
    for _, _, row in valid_run().changelog:
        owed, ends_at_ms, due = longest_owed(row), order_ends_at_ms(row), _due(row)
        if owed is not None:
            ends_at_ms = owed[1] + DEFAULT_RULES.drive_again_ms
            assert meaning_of(due.note) == Owed(owed[0])
        if ends_at_ms is None:
            assert due == NEVER
        else:
            assert ends_at_ms <= due.at_ms < ends_at_ms + LOOK_MS
        seen.add((owed is None, ends_at_ms is None))
    assert seen == {(False, False), (True, True), (True, False)}


def test_order_that_waits_for_its_answer_keeps_its_due_time_within_a_minute() -> None:
    """Else each write of a payment under way would move it in the index."""
    desk = Desk()
    desk.now_ms = 1_000 * LOOK_MS + 1
    desk.send(sale())
    claiming = _due(_row(desk))
    desk.now_ms += 1_000
    desk.grant()
    assert _due(_row(desk)) == claiming


def test_order_in_doubt_is_not_due_since_its_timer_looks_after_it() -> None:
    desk = Desk()
    desk.do(sale(), UNKNOWN)
    assert _due(_row(desk)) == NEVER


def test_order_that_has_ended_names_its_references() -> None:
    desk = Desk()
    desk.do(sale())
    (operation,) = _row(desk).operations
    known = KnownReference(gateway=MOCK, account=AccountName("default"), reference=str(operation.gateway_reference))
    assert CallKind.SALE in CAPABILITIES.references_indexed
    assert meaning_of(_due(_row(desk)).note) == Over(_row(desk).version, _row(desk).created_at_ms, 1, (known,))


def test_order_whose_references_are_too_many_for_a_note_says_that_they_are_to_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dues, "MAX_NOTE_BYTES", 10)
    desk = Desk()
    desk.do(sale())
    assert meaning_of(_due(_row(desk)).note) is None


def test_note_that_says_nothing_tells_nothing_of_its_order() -> None:
    assert meaning_of(b"") == UNTOLD
    assert meaning_of(b"owes:op_1") == Owed(OpId("op_1"))


@pytest.mark.parametrize("claimed_at_ms", [0, 1, LOOK_MS - 1, LOOK_MS, 7 * LOOK_MS + 1])
def test_claim_is_due_within_a_minute_after_its_life(claimed_at_ms: int) -> None:
    desk = Desk()
    desk.send(sale())
    claim = desk.claims[0]
    row = ClaimRow(op_id=claim.op_id, order_id=claim.order_id, plan=plan("mock"), claimed_at_ms=claimed_at_ms)
    over_ms = claim_expires_at_ms(row)
    assert over_ms <= due_of_claim(row, DEFAULT_RULES).at_ms < over_ms + LOOK_MS


def test_parked_webhooks_are_due_when_the_first_has_waited_for_a_day() -> None:
    first = ParkedWebhook(webhook_id="w", traceparent=None, tracestate=None, headers=(), body=b"", received_at_ms=5)
    assert due_of_parked((replace(first, received_at_ms=9), first)) == Due(5 + PARKED_FOR_MS)
