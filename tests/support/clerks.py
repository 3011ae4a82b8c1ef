"""Operators at the desk: seeded notes, closed reviews and settled operations, asked for until they are answered.

Used by `tests.faults.run`; `tests/support/desk_checks.py` decides whether what they were told was right.
"""

import asyncio
import random
import uuid
from collections.abc import Iterable
from typing import Any

from schemas.records.orders import OperationRow, OrderRow
from tests.support.workload import Answer, Client, Habits, History, Request, Ruling

NOTE, CLOSE_REVIEW, SUCCEEDED, NOT_EXECUTED = "note", "close_review", "succeeded", "not_executed"
VERDICTS = (SUCCEEDED, NOT_EXECUTED)
"""About money: half of them prove wrong, and the gateway says so."""

NAMING = frozenset({200, 201, 202, 402})
"""Statuses of answers that name an operation of the order, and no other's."""

LATELY = 150
"""Of the last requests a clerk finds what to decide about: some of them still wait."""

SETTLES = 0.8
"""Share of the operations that wait for their gateway which a clerk settles before it speaks."""

SETTLED_KINDS = frozenset({"authorize", "sale", "capture", "refund"})
NOT_BEGUN = frozenset({"queued", "claiming"})
"""States in which nothing can be decided yet."""


class Clerk:
    """One operator, by the desk's HTTP port."""

    def __init__(
        self,
        client: Client,
        history: History,
        *,
        seed: int,
        name: str,
        run: str,
        habits: Habits,
        settles_at: frozenset[str] | None = None,
    ) -> None:
        """`client`: of the desk. `settles_at`: the gateways whose last word it does not wait for; None: all."""
        self._settles_at = settles_at
        self._client = client
        self._history = history
        self._chance = random.Random(seed)
        self._name = name
        self._run = run
        self._habits = habits

    async def one_ruling(self) -> None:
        """Decide about something that a client was told of lately; nothing, when there is none."""
        ruling = self._chosen()
        if ruling is not None:
            self._history.rulings.append(ruling)
            await self.pursue(ruling)

    async def settle(self, row: OrderRow, operation: OperationRow, *, done: bool) -> None:
        """Settle an operation as its gateway's own pages show it to this operator."""
        key = f"{self._run}-{uuid.UUID(int=self._chance.getrandbits(128))}"
        body = {
            "originId": row.origin_id,
            "paymentId": operation.payment_id,
            "operation": operation.op_id,
            "outcome": SUCCEEDED if done else NOT_EXECUTED,
            "why": f"by {self._name}, under {key}",
        }
        ruling = Ruling(operator=self._name, key=key, order_id=row.order_id, body=body)
        self._history.rulings.append(ruling)
        await self.pursue(ruling)

    async def pursue(self, ruling: Ruling) -> None:
        """Ask under the same key until the decision holds, or is refused, or the clerk's patience ends."""
        for _ in range(self._habits.tries):
            answer = await self._client.send(
                "POST",
                "/decisions",
                {"Idempotency-Key": ruling.key, "X-Operator": ruling.operator},
                ruling.body,
            )
            ruling.answers.append(answer)
            if answer.final:
                return
            await asyncio.sleep(self._habits.retry_delay_s)  # a client's back-off, not a test's wait

    def _chosen(self) -> Ruling | None:
        """Prefer what still waits for its gateway, then a payment with a review; else anything will do for a note."""
        told = list(_told_operations(self._history.requests[-LATELY:]))
        if not told:
            return None
        waiting = [each for each in told if self._may_settle(each[2]) and not self._is_ruled(each[2])]
        if waiting and self._chance.random() < SETTLES:
            return self._ruling(*self._chance.choice(waiting), self._chance.choice(VERDICTS))
        reviewed = [each for each in told if "review" in _overlays_of(each[1])]
        if reviewed and self._chance.random() < SETTLES:
            return self._ruling(*self._chance.choice(reviewed), CLOSE_REVIEW)
        return self._ruling(*self._chance.choice(told), NOTE)

    def _may_settle(self, operation: dict[str, Any]) -> bool:
        return _waits(operation) and (self._settles_at is None or operation["gateway"] in self._settles_at)

    def _is_ruled(self, operation: dict[str, Any]) -> bool:
        return any(each.body["operation"] == operation["id"] for each in self._history.rulings[-LATELY:])

    def _ruling(self, request: Request, answer: Answer, operation: dict[str, Any], outcome: str) -> Ruling:
        key = f"{self._run}-{uuid.UUID(int=self._chance.getrandbits(128))}"
        payment = answer.body.get("payment") or answer.body
        body = {
            "originId": request.origin_id,
            "paymentId": payment["id"],
            "operation": operation["id"],
            "outcome": outcome,
            "why": f"by {self._name}, under {key}",
        }
        return Ruling(operator=self._name, key=key, order_id=request.order_id, body=body)


def _told_operations(requests: Iterable[Request]) -> Iterable[tuple[Request, Answer, dict[str, Any]]]:
    """Yield each request whose last answer names its payment and its operation, which has begun."""
    for request in requests:
        if not request.answers:
            continue
        answer = request.last
        operation = answer.body.get("operation")
        payment = answer.body.get("payment") or answer.body
        if answer.status not in NAMING or not isinstance(operation, dict) or "overlays" not in payment:
            continue
        if operation["state"] not in NOT_BEGUN:
            yield request, answer, operation


def _waits(operation: dict[str, Any]) -> bool:
    return operation["state"] == "pending" and operation["kind"] in SETTLED_KINDS


def _overlays_of(answer: Answer) -> Iterable[str]:
    payment = answer.body.get("payment") or answer.body
    found: Iterable[str] = payment.get("overlays", ())
    return found
