"""Persons in the crash model: they decide about what is open, rightly or wrongly, and gateways tell the truth late.

A person looks at the row of the moment: settles an operation whose last word is still to come, as carried out (all of
it, or a part) or as not, says that some of a success was taken back, leaves a note, or closes a review. What is decided
is appended once or twice, read again after crashes, and races with the gateway's own words. Whatever a person decided,
the gateway says in the end what is true, dated by when it became so. `judged_wrongly` holds the row to that.
"""

import random
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from schemas.identifiers import DecisionId, OperatorName, OpId, PaymentId
from schemas.records.decisions import DecisionMade
from schemas.records.orders import OperationRow, OrderRow
from schemas.vocabulary import OperationKind, Outcome, Verdict
from streams.domain.sums import UNSETTLED
from streams.domain.words import are_decided
from tests.support.bank_objects import by_definition
from tests.support.crash_calls import Effect

DECISIONS: Final = "decisions"

ABOUT_MONEY: Final = frozenset({Verdict.SUCCEEDED, Verdict.NOT_EXECUTED, Verdict.TAKEN_BACK})
WITHOUT_PARTS: Final = frozenset({OperationKind.AUTHORIZE, OperationKind.VOID, OperationKind.COMPLETE})
"""Of these a person says all or nothing: it is the money taken and given back that is counted in parts."""


Wish = tuple[OrderRow, OperationRow, Verdict, int | None]

TAKES_BACK: Final = 0.2
CLOSES: Final = 0.3
NOTES: Final = 0.1
"""How likely a person has such a wish, of the times at which one might."""


@dataclass(slots=True)
class Person:
    """Whoever sits at the desk, and what that person has decided so far."""

    chance: random.Random
    left: int
    decided: list[DecisionMade] = field(default_factory=list)
    untold: list[DecisionMade] = field(default_factory=list)  # of which the gateway has to speak

    def judge(self, orders: Iterable[OrderRow], *, now_ms: int) -> DecisionMade | None:
        """Return a decision about some operation; None: there is nothing to decide, or this person has done enough."""
        if not self.left:
            return None
        wishes = [
            wish for row in orders for each in row.operations if each.attempt > 0 for wish in self._wishes(row, each)
        ]
        if not wishes:
            return None
        self.left -= 1
        row, operation, verdict, amount_minor = self.chance.choice(wishes)
        decision = DecisionMade(
            decision_id=DecisionId(f"d{len(self.decided)}"),
            origin_id=row.origin_id,
            order_id=row.order_id,
            payment_id=operation.payment_id,
            op_id=operation.op_id,
            verdict=verdict,
            amount_minor=amount_minor,
            why="seen by a person of the crash model",
            decided_by=OperatorName("anna"),
            approved_by=OperatorName("bert"),
            decided_at_ms=now_ms,
        )
        self.decided.append(decision)
        if verdict in ABOUT_MONEY:
            self.untold.append(decision)
        return decision

    def _wishes(self, row: OrderRow, operation: OperationRow) -> Iterator[Wish]:
        judged = {each.op_id for each in self.decided if each.verdict in ABOUT_MONEY}
        if operation.op_id not in judged and operation.state in UNSETTLED:
            part_minor = self.chance.choice((None, None, self.chance.randint(1, operation.amount_minor)))
            amount_minor = None if operation.kind in WITHOUT_PARTS else part_minor
            yield row, operation, Verdict.SUCCEEDED, amount_minor
            yield row, operation, Verdict.NOT_EXECUTED, None
        counts_minor = operation.counted_minor if operation.kind not in WITHOUT_PARTS else 0
        if operation.op_id not in judged and counts_minor > 0 and self.chance.random() < TAKES_BACK:
            part_minor = self.chance.choice((None, self.chance.randint(1, counts_minor)))
            yield row, operation, Verdict.TAKEN_BACK, part_minor
        if self.chance.random() < NOTES:
            yield row, operation, Verdict.NOTE, None
        reviewed = {each.payment_id for each in row.payments if each.review}
        if operation.payment_id in reviewed and self.chance.random() < CLOSES:
            yield row, operation, Verdict.CLOSE_REVIEW, None


def decided_ops(orders: Iterable[OrderRow]) -> frozenset[OpId]:
    """Return the operations that a person settled, in these rows."""
    return frozenset(each.op_id for row in orders for each in row.operations if are_decided(each.words))


def judged_wrongly(
    orders: Iterable[OrderRow], effects: Iterable[Effect], looked_at: AbstractSet[PaymentId]
) -> Iterator[str]:
    """Yield each operation that a person settled and that does not count for what it must.

    Nobody can tell before: a person may be wrong. But then the gateway's word is later, and counts; or it is earlier
    than the decision, and the payment is under review, or was until a person closed that (`looked_at`). Not of what
    was taken back: the gateway's words were known then, and said again they are no news.
    """
    true_of: dict[OpId, Effect] = {each.request.op_id: each for each in effects if each.object.statements}
    for row in orders:
        for operation in row.operations:
            if not are_decided(operation.words):
                continue
            effect = true_of.get(operation.op_id)
            done_minor = 0 if effect is None else effect.counts_minor
            overruled = any(
                each.decision is not None and each.decision.verdict is Verdict.TAKEN_BACK for each in operation.events
            )
            if operation.counted_minor != done_minor and operation.payment_id not in looked_at and not overruled:
                yield f"unreviewed decision {operation.op_id} counts {operation.counted_minor}, did {effect}"
            if effect is None or effect.request.attempt != operation.attempt:
                continue
            if operation.gateway_reference in {None, effect.object.reference}:
                yield from _beaten(operation, effect)
            elif operation.payment_id not in looked_at:  # what was done at the gateway's desk was taken for ours
                yield f"unreviewed stranger {operation.op_id} is {operation.gateway_reference}: {effect}"


def _beaten(operation: OperationRow, effect: Effect) -> Iterator[str]:
    """Yield what counts otherwise than by the words of the gateway and of the person, each at its time."""
    person = [
        (each.occurred_at_ms, Outcome.SUCCEEDED, each.amount_minor, None) for each in operation.words if each.by_desk
    ]
    if {each[0] for each in person} & {each[0] for each in effect.object.statements}:
        return  # of one time: nobody can tell
    comes_to_minor = by_definition([*effect.object.statements, *person])
    if operation.counted_minor != comes_to_minor:
        yield f"beaten {operation.op_id} counts {operation.counted_minor}, comes to {comes_to_minor}: {effect} {person}"
