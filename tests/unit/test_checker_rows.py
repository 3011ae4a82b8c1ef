"""The checker's reading of the changelog: rows go forward along their stamps, whatever the order of the log."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway_adapters.mock import wire
from schemas.identifiers import OpId, payment_id
from schemas.records.orders import OrderRow
from schemas.vocabulary import OperationState
from streams.domain.limits import DEFAULT_RULES
from streams.kafka.stamps import Stamp
from tests.support.checker import violations
from tests.support.order_desk import ORDER, Said, refund, sale
from tests.support.row_history import RowHistory
from tests.support.staged_life import KEY, valid_log
from tests.support.staged_run import StagedRun


def lives() -> list[tuple[bytes, Stamp, OrderRow]]:
    return [each for each in valid_log().changelog if each[0] == KEY]


def row_faults(records: list[tuple[bytes, Stamp, OrderRow]]) -> tuple[list[str], RowHistory]:
    history = RowHistory()
    for key, stamp, row in records:
        history.add(key, stamp, row)
    return history.faults(), history


def test_rows_have_no_faults_when_a_new_owner_goes_on_where_the_old_one_stopped() -> None:
    records = [(key, Stamp(1 if n < 5 else 2, stamp.version), row) for n, (key, stamp, row) in enumerate(lives())]
    faults, history = row_faults(records)
    assert (faults, history.late, history.superseded) == ([], 0, 0)
    assert history.open_rows == 0
    assert history.rows() == [records[-1][2]]


def test_late_record_of_a_frozen_owner_never_wins_and_is_counted() -> None:
    records = lives()
    old, rest = records[:6], records[4:]
    new = [(key, Stamp(2, stamp.version), row) for key, stamp, row in rest]
    frozen = [(key, Stamp(1, stamp.version), row) for key, stamp, row in records[6:8]]
    faults, history = row_faults([*old, *new, *frozen])
    assert (faults, history.late, history.superseded) == ([], 2, 4)
    assert history.rows() == [records[-1][2]]


def test_row_fault_is_found_when_a_replaced_owner_ended_an_operation_otherwise() -> None:
    records = lives()
    key, stamp, row = records[-1]
    lied = replace(row, operations=(replace(row.operations[0], state=OperationState.DECLINED), *row.operations[1:]))
    winner = (key, Stamp(2, stamp.version), row)
    faults, _ = row_faults([*records[:-1], winner, (key, stamp, lied)])
    assert [fault for fault in faults if "replaced owner" in fault and "declined to succeeded" in fault] == faults != []


def shrunk(row: OrderRow) -> OrderRow:
    return replace(row, operations=row.operations[:-1])


def reopened(row: OrderRow) -> OrderRow:
    first = replace(row.operations[0], state=OperationState.DECLINED)
    return replace(row, operations=(first, *row.operations[1:]))


def poorer(row: OrderRow) -> OrderRow:
    last = row.operations[-1]
    return replace(row, operations=(*row.operations[:-1], replace(last, counted_minor=last.counted_minor - 1)))


def older(row: OrderRow) -> OrderRow:
    return replace(row, version=1)


def quieter(row: OrderRow) -> OrderRow:
    return replace(row, sequence=row.sequence - 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (shrunk, "lost op_"),
        (reopened, "from succeeded to declined"),
        (poorer, "captured of pay_"),
        (older, "version and sequence fell"),
        (quieter, "version and sequence fell"),
    ],
)
def test_row_fault_is_found_when_a_higher_stamp_carries_less(change: Callable[[OrderRow], OrderRow], told: str) -> None:
    records = lives()
    key, stamp, row = records[-1]
    faults, _ = row_faults([*records, (key, stamp.next(stamp.generation), change(row))])
    assert [fault for fault in faults if told in fault] != []
    found = violations(replace(valid_log().evidence(), row_faults=faults))
    assert {each.partition(":")[0] for each in found} == {"rows_never_regress"}


def test_row_fault_is_found_when_a_row_is_deleted_or_its_parent_is_missing_or_a_stamp_stands_for_two() -> None:
    records = lives()
    key, stamp, row = records[-1]
    deleted = RowHistory()
    for each in records:
        deleted.add(*each)
    deleted.add(key, stamp.next(1), None)
    missing, _ = row_faults([*records[:3], *records[4:]])
    twice, _ = row_faults([*records, (key, stamp, poorer(row))])
    assert "deleted" in deleted.faults()[0]
    assert "is not on the changelog" in missing[0]
    assert "two rows under the stamp" in twice[0]


def test_sum_may_fall_when_a_reversal_took_it() -> None:
    run = StagedRun()
    run.notice(run.send(sale(5_000)), wire.Status.REVERSED)
    faults, _ = row_faults(run.changelog)
    assert faults == []


def many_refunds() -> StagedRun:
    """A run of one order, whose first refunds have left its row."""
    run = StagedRun(replace(DEFAULT_RULES, kept_operations=1, leaving_operations=2))
    sold = run.send(sale(5_000))
    payment = payment_id(ORDER, OpId(sold))
    for number in range(4):
        run.send(refund(payment, 500, key=f"r{number}"), Said(reference=f"ref-{number}"))
    assert run.apart
    return run


def history_of(run: StagedRun) -> RowHistory:
    history = RowHistory()
    for key, stamp, row in run.changelog:
        history.add(key, stamp, row)
    for key, stamp, own in run.apart:
        history.add_apart(key, stamp, own)
    return history


def test_operations_are_not_lost_when_they_have_left_for_rows_of_their_own() -> None:
    run = many_refunds()
    history = history_of(run)
    assert history.faults() == []
    (row,) = history.rows()
    assert [each.number for each in row.operations] == [1, 2, 3, 4, 5]
    assert violations(run.evidence()) == []


def test_row_fault_is_found_when_an_operation_has_left_and_stands_nowhere() -> None:
    run = many_refunds()
    gone = run.changelog[-1][2].operations[0].number + 1
    run.apart = [each for each in run.apart if each[2].operation is None or each[2].number != gone]
    told = history_of(run).faults()
    assert [fault for fault in told if "lost op_" in fault] != []
    assert [fault for fault in told if "stand in no row of their own" in fault] != []


def test_row_fault_is_found_when_a_row_keeps_another_sum_than_those_that_left_come_to() -> None:
    run = many_refunds()
    key, stamp, row = run.changelog[-1]
    subtotals = tuple(replace(each, refunded_minor=each.refunded_minor + 1) for each in row.subtotals)
    run.changelog.append((key, stamp.next(1), replace(row, version=row.version + 1, subtotals=subtotals)))
    assert [fault for fault in history_of(run).faults() if "keeps 1001 for the refunds" in fault] != []
