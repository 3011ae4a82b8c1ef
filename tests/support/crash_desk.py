"""Persons in the crash model: they decide about what is open, rightly or wrongly, and gateways tell the truth late.

A person looks at the row of the moment and settles an operation whose last word is still to come. What is decided is
appended once or twice, read again after crashes, and races with the gateway's own words. Whatever a person decided, the
gateway says in the end what is true, dated by when it became so. `judged_wrongly` holds the row to that.
"""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from schemas.identifiers import DecisionId, GatewayName, OperatorName, OpId
from schemas.records.decisions import DecisionMade
from schemas.records.orders import OperationRow, OrderRow
from schemas.vocabulary import Outcome, Verdict
from streams.domain.sums import UNSETTLED
from streams.domain.words import are_decided
from tests.support.crash_gateways import Effect

DECISIONS: Final = "decisions"


@dataclass(slots=True)
class Person:
    """Whoever sits at the desk, and what that person has decided so far."""

    chance: random.Random
    left: int
    decided: list[DecisionMade] = field(default_factory=list)
    untold: list[tuple[DecisionMade, GatewayName]] = field(default_factory=list)  # of which the gateway has to speak

    def judge(self, orders: Iterable[OrderRow], *, now_ms: int) -> DecisionMade | None:
        """Return a decision about some operation that is open; None: there is none, or this person has done enough."""
        known = {each.op_id for each in self.decided}
        found = [
            (row, each)
            for row in orders
            for each in row.operations
            if each.state in UNSETTLED and each.attempt > 0 and each.op_id not in known
        ]
        if not found or not self.left:
            return None
        self.left -= 1
        row, operation = self.chance.choice(found)
        decision = DecisionMade(
            decision_id=DecisionId(f"d{len(self.decided)}"),
            origin_id=row.origin_id,
            order_id=row.order_id,
            payment_id=operation.payment_id,
            op_id=operation.op_id,
            verdict=self.chance.choice((Verdict.SUCCEEDED, Verdict.NOT_EXECUTED)),
            amount_minor=None,
            why="seen by a person of the crash model",
            decided_by=OperatorName("anna"),
            approved_by=OperatorName("bert"),
            decided_at_ms=now_ms,
        )
        self.decided.append(decision)
        assert operation.gateway is not None
        self.untold.append((decision, operation.gateway))
        return decision


def decided_ops(orders: Iterable[OrderRow]) -> frozenset[OpId]:
    """Return the operations that a person settled, in these rows."""
    return frozenset(each.op_id for row in orders for each in row.operations if are_decided(each.words))


def judged_wrongly(orders: Iterable[OrderRow], effects: Iterable[Effect]) -> Iterator[str]:
    """Yield each operation that a person settled and that does not count for what it must.

    Nobody can tell before: a person may be wrong. But then the gateway's word is later, and counts; or it is earlier
    than the decision, and the payment is under review.
    """
    true_of: dict[OpId, Effect] = {each.request.op_id: each for each in effects if each.outcome is Outcome.SUCCEEDED}
    for row in orders:
        reviewed: Mapping[str, bool] = {each.payment_id: each.review for each in row.payments}
        for operation in row.operations:
            if not are_decided(operation.words):
                continue
            effect = true_of.get(operation.op_id)
            done_minor = 0 if effect is None else effect.request.amount_minor
            if operation.counted_minor != done_minor and not reviewed[operation.payment_id]:
                yield f"unreviewed decision {operation.op_id} counts {operation.counted_minor}, did {effect}"
            if effect is not None and effect.request.attempt == operation.attempt:
                yield from _beaten(operation, effect)


def _beaten(operation: OperationRow, effect: Effect) -> Iterator[str]:
    """Yield whose word counts though the other's is the later one."""
    person = max((each for each in operation.words if each.by_desk), key=lambda each: each.occurred_at_ms)
    if effect.at_ms > person.occurred_at_ms and operation.counted_minor != effect.request.amount_minor:
        yield f"beaten gateway {operation.op_id} counts {operation.counted_minor}, did {effect}"
    if effect.at_ms < person.occurred_at_ms and operation.counted_minor != person.amount_minor:
        yield f"beaten person {operation.op_id} counts {operation.counted_minor}, said {person}"
