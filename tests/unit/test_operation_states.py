"""The page of an operation's states is the table, and the table is what lives really use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.vocabulary import OperationState
from streams.domain.errors import InvariantViolatedError
from streams.domain.transitions import TABLE, require_move

PAGE = Path(__file__).parents[2] / "docs" / "operation-states.md"
HEAD = """# States of an operation

Made from `streams/domain/transitions.py`, which a test holds to this page. No operation moves otherwise.
A part that is taken back or restored leaves an operation where it is: `succeeded`.

| from | to | told as | when |
| --- | --- | --- | --- |
"""


def lines() -> Iterator[str]:
    for move in TABLE:
        origins = ", ".join(f"`{each}`" for each in move.origins)
        told = "" if move.told is None else f"`{move.told}`"
        yield f"| {origins} | `{move.to}` | {told} | {move.when} |\n"


def test_page_is_the_table() -> None:
    assert PAGE.read_text() == HEAD + "".join(lines())


def test_every_state_is_reached_and_one_is_where_all_begin() -> None:
    assert set(OperationState) - {move.to for move in TABLE} == {OperationState.QUEUED}


@pytest.mark.parametrize("last", [OperationState.DECLINED, OperationState.NOT_EXECUTED, OperationState.CONFLICT])
def test_refusal_is_the_last_word(last: OperationState) -> None:
    with pytest.raises(InvariantViolatedError):
        require_move(last, OperationState.SUCCEEDED)
    require_move(last, last)
