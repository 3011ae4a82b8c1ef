"""The webhooks of the crash model's gateways: what they owe, whom it names, and how it is delivered.

A word is owed from the moment when it became so. It is told late, in any order, once or twice, alone or in a batch with
words about other orders and with items that say nothing to us. It names its order and operation, or our reference (the
operation's id) alone, or nothing but the gateway's own references; then it goes through the references index.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway_adapters.contract import Capabilities, GatewayNotice
from gateway_adapters.notices import Address, items_for, split
from schemas.identifiers import AccountName, GatewayName, OrderId, OriginId
from schemas.records.gateway import GatewayCallRequested, OperationError
from schemas.vocabulary import CallKind, Outcome
from tests.support.bank_objects import Told

MAX_BATCH: Final = 3
TWICE: Final = 0.2
"""How likely a word that is told is owed once more."""

OPENING: Final = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
STRANGER: Final = OriginId("another-system")


def _capabilities(*, gives_back_ours: bool) -> Capabilities:
    kinds = frozenset(CallKind) - {CallKind.INQUIRE}
    return Capabilities(
        operations=frozenset(CallKind),
        currencies=None,
        partial_capture=True,
        multiple_capture=True,
        partial_refund=True,
        multiple_refund=True,
        inquire_by_key=True,
        inquire_by_reference=True,
        not_found_is_proof=True,
        webhooks=True,
        key_window_ms={},
        references_indexed=OPENING,
        own_references_indexed=kinds if gives_back_ours else frozenset(),
    )


CAPABILITIES: Final[Mapping[GatewayName, Capabilities]] = {
    GatewayName("alpha"): _capabilities(gives_back_ours=False),
    GatewayName("beta"): _capabilities(gives_back_ours=True),
    GatewayName("gamma"): _capabilities(gives_back_ours=True),
}
"""What the index has of each. What alpha tells without our metadata names its own references alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One delivery: its items, in the gateway's order, as they came to this account."""

    gateway: GatewayName
    account: AccountName
    items: tuple[GatewayNotice, ...]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Whom its items are about: the orders and references that it is appended for."""
        return split(self.items, CAPABILITIES[self.gateway]).addresses

    def items_of(self, address: Address) -> tuple[GatewayNotice, ...]:
        """Return the items about this address."""
        return items_for(self.items, address, CAPABILITIES[self.gateway])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owed:
    notice: GatewayNotice
    account: AccountName


class Telling:
    """What the gateways have still to tell."""

    def __init__(self, chance: random.Random, *, unnamed: int, batched: bool) -> None:
        """`unnamed`: percent of the words that name no order. `batched`: several in one delivery."""
        self._chance = chance
        self._unnamed = unnamed
        self._batched = batched
        self._number = 0
        self._owed: list[_Owed] = []

    def owe(
        self,
        request: GatewayCallRequested,
        told: Told,
        *,
        reference: str | None,
        payment_reference: str | None,
        always_named: bool = False,
        at_desk: bool = False,
        error: OperationError | None = None,
    ) -> None:
        """Owe this word about what the request asked for.

        Args:
            request: What was done; of something made at the gateway's own desk, what it would have been asked by.
            told: The word.
            reference: The gateway's own, of the object.
            payment_reference: The gateway's own, of the payment that it belongs to.
            always_named: Nobody but our own ids could tell whose it is.
            at_desk: No operation of ours did it.
            error: Of a refusal.
        """
        self._number += 1
        notice = GatewayNotice(
            gateway=request.gateway,
            notice_id=f"n{self._number}",
            origin_id=request.origin_id,
            order_id=request.order_id,
            op_id=request.op_id,
            kind=request.kind,
            outcome=told.outcome,
            gateway_reference=reference,
            payment_reference=None if request.kind in OPENING else payment_reference,
            confirmed_amount_minor=None if told.outcome is Outcome.DECLINED else told.amount_minor,
            confirmed_currency=None if told.outcome is Outcome.DECLINED else request.currency,
            error=error,
            occurred_at_ms=told.at_ms,
            case_reference=told.case,
        )
        named = notice if at_desk else self._named(notice, always_named=always_named)
        if at_desk:
            named = replace(notice, origin_id=None, order_id=None, op_id=None)
        self._owed.append(_Owed(notice=named, account=request.account))

    def _named(self, notice: GatewayNotice, *, always_named: bool) -> GatewayNotice:
        if self._chance.randrange(100) >= self._unnamed:
            return notice
        nameless = replace(notice, origin_id=None, order_id=None)
        if CAPABILITIES[notice.gateway].own_references_indexed:
            return nameless
        return notice if always_named else replace(nameless, op_id=None)

    def next(self) -> Webhook | None:
        """Return one delivery of what is owed, of any age; None: nothing is."""
        if not self._owed:
            return None
        first = self._chance.choice(self._owed)
        at = (first.notice.gateway, first.account)
        others = [each for each in self._owed if (each.notice.gateway, each.account) == at and each is not first]
        more = self._chance.randrange(MAX_BATCH) if self._batched else 0
        batch = [first, *self._chance.sample(others, min(more, len(others)))]
        for each in batch:
            if self._chance.random() >= TWICE:
                self._owed.remove(each)
        items = [each.notice for each in batch]
        if more:
            items += self._of_no_interest(items)
        return Webhook(gateway=at[0], account=at[1], items=tuple(items))

    def _of_no_interest(self, items: Sequence[GatewayNotice]) -> list[GatewayNotice]:
        """Return items about an order of another system, and about nothing at all."""
        like = items[0]
        theirs = replace(
            like, notice_id="theirs", origin_id=STRANGER, order_id=OrderId("theirs"), op_id=None, payment_reference=None
        )
        nothing = replace(
            theirs,
            notice_id="nothing",
            origin_id=None,
            order_id=None,
            kind=None,
            outcome=Outcome.UNKNOWN,
            gateway_reference=None,
        )
        return [theirs, nothing]
