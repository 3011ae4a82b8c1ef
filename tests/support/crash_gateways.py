"""The gateways of the crash model: what becomes of what they did, and what they tell of it by webhooks.

What was pending finds its end. What was done may be taken back, whole or in parts, be done again by itself, be disputed
or run out; and somebody may refund, capture or void at a gateway's own desk. Calls are answered in `crash_calls`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from schemas.identifiers import OpId
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from tests.support.bank_objects import Told
from tests.support.crash_calls import DECLINED, Calls, Effect
from tests.support.crash_telling import OPENING, Telling, Webhook

MAX_LATER: Final = 4
"""What may happen to one object after its success."""

MAX_AT_DESK: Final = 3
"""What may be done at the gateways' own desks, in one run."""

AT_ONCE: Final = 0.2
"""How likely another part is taken back in the same millisecond."""

AT_DESK_MINOR: Final = (1_001, 3_000, 6_000)
"""What is done there may be of the very amount that a client asks for."""


@dataclass(slots=True)
class Gateways(Calls):
    """All gateways."""

    telling: Telling = field(init=False)

    def __post_init__(self) -> None:
        self.telling = Telling(self.chance, unnamed=self.whims.unnamed, batched=self.whims.batched)

    def webhook(self, *, now_ms: int) -> Webhook | None:
        """Let one pending effect find its end, or something happen to a success; return a webhook, if one is owed.

        A stray is told of first: that it was taken back would mean nothing to who never heard of it.
        """
        self.now_ms = now_ms
        if self.acting:
            effect = self.acting.pop(0)
            amount_minor = effect.object.gross_minor
            self._owe(effect, Told(outcome=Outcome.REQUIRES_ACTION, amount_minor=amount_minor, case=None, at_ms=now_ms))
        if self.untold:
            effect = self.untold.pop(0)
            self._owe(
                effect,
                Told(outcome=Outcome.SUCCEEDED, amount_minor=effect.object.gross_minor, case=None, at_ms=effect.at_ms),
            )
        pending = [effect for effect in self.effects if effect.outcome is Outcome.PENDING]
        if pending:
            self._end_pending(self.chance.choice(pending))
        elif self.chance.randrange(100) < self.whims.taken_back:
            self._take_back_whole()
        elif self.chance.randrange(100) < self.whims.moves:
            self._move()
        elif len(self.at_desk) < MAX_AT_DESK and self.chance.randrange(100) < self.whims.at_desk:
            self._work_at_desk()
        return self.telling.next()

    def _end_pending(self, effect: Effect) -> None:
        too_late = effect.request.kind is CallKind.VOID and self.is_taken(effect.request)
        if too_late or self.strikes(self.whims.fails_late, "fl", effect.request.gateway_key):
            self.come_to_nothing(effect)
            self._owe(effect, Told(outcome=Outcome.DECLINED, amount_minor=0, case=None, at_ms=self.now_ms))
            return
        told = self.succeed(effect)
        self.restate(effect)
        if effect in self.untold:
            self.untold.remove(effect)
        self._owe(effect, told)

    def _owe(self, effect: Effect, told: Told) -> None:
        opening = self.opening_of(effect.request)
        at_desk = effect in self.at_desk
        stray = any(each.request.gateway_key in self.strays for each in [effect, *opening])
        self.telling.owe(
            effect.request,
            told,
            reference=effect.object.reference,
            payment_reference=opening[0].object.reference if opening else None,
            always_named=stray or not opening or not self.whims.unowned,
            at_desk=at_desk,
            error=DECLINED.error if told.outcome is Outcome.DECLINED else None,
        )

    @property
    def _done_so_far(self) -> list[Effect]:
        """What was done and may change: not what was let go again since only a part of it was approved."""
        return [
            each
            for each in [*self.effects, *self.at_desk]
            if each.outcome is not Outcome.PENDING
            and each.request.gateway_key not in self.cancelling
            and each not in self.untold
            and not self._is_of_a_part_let_go(each.request)
        ]

    def _is_of_a_part_let_go(self, request: GatewayCallRequested) -> bool:
        opening = [each for each in self.of_payment(request) if each.request.kind in OPENING]
        return any(each.is_part and each.request.op_id not in self.part_will_do for each in opening)

    def _take_back_whole(self) -> None:
        done = [each for each in self._done_so_far if each.object.balance_minor > 0 and not each.object.disputes]
        if not done:
            return
        effect = self.chance.choice(done)
        if effect.request.kind is CallKind.AUTHORIZE and (effect.expired or self._is_let_go(effect.request)):
            return  # nothing is held any more that could be taken back
        told = effect.object.take_back(self.chance, self._later_than(effect), whole=True)
        self._tell(effect, told)

    def _move(self) -> None:
        done = [each for each in self._done_so_far if each.request.kind is not CallKind.VOID]
        if not done:
            return
        effect = self.chance.choice(done)
        at_ms = self._later_than(effect)
        if effect.request.kind is CallKind.AUTHORIZE:
            if effect.counts_minor > 0 and not effect.expired and not self._is_let_go(effect.request):
                effect.expired = True
                self._tell(
                    effect,
                    [Told(outcome=Outcome.EXPIRED, amount_minor=effect.object.balance_minor, case=None, at_ms=at_ms)],
                )
            return
        told = effect.object.happen(self.chance, at_ms=at_ms, most=MAX_LATER)
        if told and told[0].outcome is Outcome.REVERSED and self.chance.random() < AT_ONCE:
            told += effect.object.take_back(self.chance, at_ms)
        self._tell(effect, told)

    def _later_than(self, effect: Effect) -> int:
        return max(self.now_ms, *(each[0] + 2 for each in effect.object.statements))

    def _tell(self, effect: Effect, told: Iterable[Told]) -> None:
        for each in told:
            effect.at_ms = each.at_ms
            self._owe(effect, each)
        self.restate(effect)

    def _work_at_desk(self) -> None:
        """Let somebody refund, capture or void at the gateway's own desk what a payment of ours has there."""
        opening = [
            each
            for each in self._done_so_far
            if each.request.kind in OPENING and each.request.gateway_key not in self.strays and each in self.effects
        ]
        if not opening:
            return
        payment = self.chance.choice(opening)
        captured_minor, refunded_minor = self._taken_of(payment.request)
        held_minor = payment.counts_minor - captured_minor
        is_held = payment.request.kind is CallKind.AUTHORIZE and not payment.expired and held_minor > 0
        draw = self.chance.random()
        if is_held and not self._is_let_go(payment.request) and draw < 0.4:
            kind = CallKind.VOID if draw < 0.15 and captured_minor == 0 else CallKind.CAPTURE
            amount_minor = held_minor if kind is CallKind.VOID else self._at_most(held_minor)
            self._do_at_desk(payment.request, kind, amount_minor)
        elif captured_minor > refunded_minor:
            self._do_at_desk(payment.request, CallKind.REFUND, self._at_most(captured_minor - refunded_minor))

    def _at_most(self, left_minor: int) -> int:
        return min(left_minor, self.chance.choice(AT_DESK_MINOR))

    def _taken_of(self, request: GatewayCallRequested) -> tuple[int, int]:
        """Return what was captured of this payment, and refunded, or may be: what is pending counts too."""
        ours = [*self.of_payment(request), *self.at_desk_of(request)]
        taking, giving = {CallKind.SALE, CallKind.CAPTURE}, {CallKind.REFUND}
        captured_minor = sum(each.object.balance_minor for each in ours if each.request.kind in taking)
        return captured_minor, sum(each.object.balance_minor for each in ours if each.request.kind in giving)

    def _do_at_desk(self, payment: GatewayCallRequested, kind: CallKind, amount_minor: int) -> None:
        name = f"desk-{len(self.at_desk)}"
        request = replace(
            payment, kind=kind, op_id=OpId(name), gateway_key=name, amount_minor=amount_minor, final=False
        )
        effect = Effect(request, Outcome.PENDING, self.now_ms, self.new_object(request, amount_minor))
        self.at_desk.append(effect)
        self._owe(effect, self.succeed(effect))

    def tell_truth(self, decision: DecisionMade) -> None:
        """Owe what became of an operation which a person judged, dated by when it became so.

        Only when no call of it is on its way any more.
        """
        own = [each for each in self.effects if each.request.op_id == decision.op_id]
        for each in own:
            at_ms = min((said[0] for said in each.object.statements), default=None)
            if at_ms is not None:
                self._owe(
                    each, Told(outcome=Outcome.SUCCEEDED, amount_minor=each.object.gross_minor, case=None, at_ms=at_ms)
                )
        if not own and decision.op_id in self.requests:
            told = Told(outcome=Outcome.DECLINED, amount_minor=0, case=None, at_ms=self.now_ms)
            self.telling.owe(
                self.requests[decision.op_id],
                told,
                reference=None,
                payment_reference=None,
                always_named=True,
                error=DECLINED.error,
            )

    def _is_let_go(self, authorized: GatewayCallRequested) -> bool:
        """Return whether the authorization was voided, or what was left of it released by a final capture."""
        ours = [*self.of_payment(authorized), *self.at_desk_of(authorized)]
        return any(
            each.request.final or (each.request.kind is CallKind.VOID and each.outcome is not Outcome.REVERSED)
            for each in ours
        )
