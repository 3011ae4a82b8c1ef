"""What a merchant does with a payment whose payer has to act: completes it, too early at times, or cancels it.

Called by `workload.Shopper`. The payer agrees, refuses or leaves. A merchant cancels where the payer has left. Some
complete and cancel at once, but only where the bank's word alone decides nothing: who agrees there while the merchant
cancels leaves two true words, and a person would have to choose.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.support.means import mock_token_of

if TYPE_CHECKING:
    from tests.support.workload import Client, Request, VisitBank

AGREES, REFUSES, LEAVES = "agrees", "refuses", "leaves"
PAYERS = (*(AGREES,) * 6, *(REFUSES,) * 2, *(LEAVES,) * 2)
"""Of ten payers."""

COMPLETED_BY_MERCHANT = "tok_mock_completion_required"
"""The token of a payment of which the bank's word alone decides nothing."""

TOO_EARLY = 0.2
"""Share of merchants that complete before the payer has acted."""

FORGED = 0.2
"""Share of payments that somebody tries to complete with what no payer brought back."""

IN_TWO_MINDS = 0.15
"""Share of merchants that complete and cancel at once, where that leaves no doubt."""

MAX_ROUNDS = 40
"""Of asking what became of a payment, and completing or cancelling it once more."""


class Cashier:
    """Sees one payment that waits for its payer through to its end."""

    def __init__(
        self,
        client: "Client",
        paid: "Request",
        *,
        visit: "VisitBank",
        chance: random.Random,
        new_key: Callable[[], str],
    ) -> None:
        """`paid`: was told last that its payer has to act."""
        self._client = client
        self._paid = paid
        self._payment = str(paid.last.body["id"])
        self._action_url = paid.last.body.get("actionUrl")
        self._visit = visit
        self._chance = chance
        self._new_key = new_key
        at_mock = paid.last.body.get("gateway") in {None, "mock"}
        self._may_race = at_mock and mock_token_of(paid.body) == COMPLETED_BY_MERCHANT
        self._asked = 0

    async def see_through(self) -> int:
        """Bring the payment to its last word; return how many further requests that took."""
        payer = self._chance.choice(PAYERS)
        early, forged = self._chance.random() < TOO_EARLY, self._chance.random() < FORGED
        if early:
            await self._complete({})
        brought = None
        if payer != LEAVES and isinstance(self._action_url, str):
            self._client.note_act(self._payment, agreed=payer == AGREES)
            brought = await self._visit(self._action_url, payer == AGREES)
        if forged:
            await self._complete({"mock_result": "forged"})
        if brought is not None and self._may_race and self._chance.random() < IN_TWO_MINDS:
            await asyncio.gather(self._complete(brought), self._ask("cancel", {}))
            await self._client.pursue(self._paid, to_payer=True)
        for _ in range(MAX_ROUNDS):
            if self._paid.done:
                break
            if brought is None:
                await self._ask("cancel", {})
            else:
                await self._complete(brought)
            await self._client.pursue(self._paid, to_payer=True)
        return self._asked

    async def _complete(self, brought: Mapping[str, str]) -> None:
        await self._ask("complete", {"parameters": dict(brought)})

    async def _ask(self, verb: str, body: dict[str, Any]) -> None:
        self._asked += 1
        await self._client.ask(
            origin_id=self._paid.origin_id,
            order_id=self._paid.order_id,
            key=self._new_key(),
            path=f"/payments/{self._payment}/{verb}?mode=sync",
            body=body,
        )
