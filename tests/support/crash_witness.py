"""What the gateways of the crash model hold and have taken, payment by payment, and where nobody was told of trouble.

Called by `crash_checks`. The engine is not asked: what stands is added up from the gateways' own effects.
"""

from collections import defaultdict
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from schemas.identifiers import PaymentId
from schemas.vocabulary import CallKind, Outcome
from tests.support.crash_calls import Effect
from tests.support.crash_gateways import Gateways
from tests.support.crash_telling import OPENING

_TAKING = frozenset({CallKind.SALE, CallKind.CAPTURE})


@dataclass(slots=True)
class Standing:
    """One payment at its gateways, minor units."""

    order: str
    authorized: int = 0
    captured: int = 0
    refunded: int = 0
    disputed: int = 0
    opened: list[Effect] = field(default_factory=list)
    let_go: bool = False  # voided, or captured for good

    @property
    def held(self) -> int:
        """How many holds stand that nothing has let go of."""
        holds = [each for each in self.opened if each.request.kind is CallKind.AUTHORIZE and not each.expired]
        return 0 if self.let_go else sum(each.counts_minor > 0 for each in holds)

    @property
    def charges(self) -> int:
        """How often the payer's money is held or taken for it: one hold, and what was captured of it, are once."""
        sales = sum(each.request.kind is CallKind.SALE and each.counts_minor > 0 for each in self.opened)
        if self.captured <= self.refunded:
            return self.held
        return max(1, sales, self.held)


def standings(gateways: Gateways) -> dict[PaymentId, Standing]:
    """Return how each payment stands."""
    found: dict[PaymentId, Standing] = {}
    for each in [*gateways.effects, *gateways.at_desk]:
        request = each.request
        standing = found.setdefault(request.payment_id, Standing(request.order_id))
        if request.kind in OPENING:
            standing.authorized += each.counts_minor
            standing.opened.append(each)
        if request.kind in _TAKING:
            standing.captured += each.counts_minor
            standing.disputed += sum(each.object.disputes.values())
        if request.kind is CallKind.REFUND:
            standing.refunded += each.counts_minor
        is_void = request.kind is CallKind.VOID and each.outcome is Outcome.SUCCEEDED
        standing.let_go = standing.let_go or is_void or request.final
    return found


def parts_let_go(gateways: Gateways) -> frozenset[PaymentId]:
    """Return the payments of which a part was approved that would not do."""
    return frozenset(
        each.request.payment_id
        for each in gateways.effects
        if each.request.kind in OPENING and each.is_part and each.request.op_id not in gateways.part_will_do
    )


def in_silence(gateways: Gateways, seen: AbstractSet[PaymentId]) -> Iterator[str]:
    """Yield what a person should have been asked about and was not (`seen`: the payments of which one was)."""
    standing = standings(gateways)
    let_go = parts_let_go(gateways)
    of_order: dict[str, list[PaymentId]] = defaultdict(list)
    for payment_id, each in standing.items():
        of_order[each.order].append(payment_id)
        if each.refunded > each.captured or each.captured > each.authorized:
            yield from [] if payment_id in seen else [f"deficit in silence {payment_id} {each}"]
        if payment_id in let_go and each.charges and payment_id not in seen:
            yield f"part kept {payment_id} {each}"
    for order, payments in of_order.items():
        charges = sum(standing[each].charges for each in payments)
        if charges > 1 and seen.isdisjoint(payments):
            yield f"charged twice in silence {order} {[standing[each] for each in payments]}"
