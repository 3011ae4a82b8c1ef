"""What the gateways of the crash model answer to calls.

A gateway keeps what it did under each idempotency key, for ever, as real ones do inside their window, or it does not
honour keys at all (`HONOURS_KEYS`). Its whims: it may be unreachable, break off before or after it did what it was
asked (and do it when nobody waits any more), keep a failure under the key, decline, approve a part, let the final word
wait for a webhook or for the payer, or contradict itself: do late what it said that it had not done, and tell of it by
a webhook. What it did is the witness that the engine's own view is held against; what becomes of that is told in
`crash_gateways`.
"""

import random
import zlib
from dataclasses import dataclass, field, replace
from typing import Final

from schemas.identifiers import AccountName, GatewayName, OpId
from schemas.records.gateway import GatewayCallRequested
from schemas.vocabulary import CallKind, DeclineClass, Outcome, RetryAdvice
from tests.support.bank_objects import BankObject, Told
from tests.support.crash_telling import OPENING
from tests.support.order_desk import Said, error

REQUESTS: Final = "gateway.requests"
RESULTS: Final = "gateway.results"

HONOURS_KEYS: Final = frozenset({"alpha"})
"""The others do again what they are asked again: they may only be inquired."""

LONGEST_ON_THE_WAY_MS: Final = 15 * 60_000
"""How long a call may be held by the network; `streams.domain.limits.LATE_CALL_MS` must be more."""

HELD: Final = 0.5
"""How likely a call that broke off before it arrived is only held on its way, and arrives after all."""

PART_PERCENT: Final = 60
"""Of what was asked for, where a part is approved."""

UNREACHABLE = Said(outcome=Outcome.NOT_EXECUTED, error=error(RetryAdvice.OTHER_GATEWAY), reference=None)
REFUSED = Said(outcome=Outcome.NOT_EXECUTED, error=error(RetryAdvice.NEVER, code="invalid_request"), reference=None)
BROKE_OFF = Said(outcome=Outcome.UNKNOWN, error=error(RetryAdvice.SAME_KEY_NOW), reference=None)
BUSY = Said(outcome=Outcome.UNKNOWN, error=error(RetryAdvice.SAME_KEY_NOW, retry_after_ms=2_000), reference=None)
THROTTLED = Said(
    outcome=Outcome.NOT_EXECUTED,
    error=error(RetryAdvice.NEW_KEY_LATER, retry_after_ms=1_000, code="rate_limited"),
    reference=None,
)
HAS_TO_ACT = "https://bank.example/3ds"
NEXT_PAGE = "https://bank.example/next"
KEPT_FAILURE = Said(outcome=Outcome.UNKNOWN, error=error(RetryAdvice.NEVER, code="gateway_failed"), reference=None)
DECLINED_HERE = Said(
    outcome=Outcome.DECLINED,
    error=error(RetryAdvice.NEW_KEY_LATER, code="do_not_honor", decline_class=DeclineClass.SOFT),
    reference=None,
)
DECLINED = Said(outcome=Outcome.DECLINED, error=error(RetryAdvice.NEVER, code="card_declined"), reference=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whims:
    """How the gateways behave, in percent of calls.

    Each copy of a call may find its gateway unreachable, or not. A second copy may be refused, which the gateway does
    not remember: it does what an earlier copy asks that arrives later still.
    """

    unreachable: int = 0
    refused: int = 0
    broken_off: int = 0
    declined: int = 0  # by the issuer: everywhere
    declined_here: int = 0  # of the payments, by one account of one gateway: another may take it
    pending: int = 0
    action: int = 0  # the payer has to act first
    taken_back: int = 0  # whole, of the times at which a gateway might tell of something
    contradicted: int = 0  # of the calls that found it unreachable
    kept_failure: int = 0  # of the calls of a gateway that honours keys; it did what it was asked, or never will
    partial: int = 0  # of the payments: only a part is approved
    fails_late: int = 0  # of what is pending
    moves: int = 0  # something happens to what was done, of the times at which a gateway might tell of something
    at_desk: int = 0  # somebody works at the gateway's own desk, of the same times
    unnamed: int = 0  # of the words that are told: they name no order
    unowned: bool = True  # some of these name the gateway's own references alone
    batched: bool = False  # webhooks hold several items


@dataclass(slots=True, eq=False)
class Effect:
    """What a gateway did: the witness that the engine's own view is held against."""

    request: GatewayCallRequested
    outcome: Outcome  # SUCCEEDED, PENDING or REVERSED
    at_ms: int  # since when
    object: BankObject  # its money, and what was said of it
    expired: bool = False  # of a hold: it ran out

    @property
    def counts_minor(self) -> int:
        """What it comes to now, minor units."""
        return 0 if self.outcome is Outcome.PENDING else self.object.balance_minor

    @property
    def is_part(self) -> bool:
        """Return whether less was approved than asked for."""
        return self.object.gross_minor < self.request.amount_minor


Place = tuple[GatewayName, AccountName, str]
"""Where a gateway keeps what it was asked: by account and key."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """A call that its sender has given up and that still may arrive."""

    request: GatewayCallRequested
    arrives_at_ms: int


@dataclass(slots=True)
class Calls:
    """What all gateways keep, by name, account and key, and what they did in the order they did it."""

    chance: random.Random
    whims: Whims
    part_will_do: frozenset[OpId] = frozenset()  # payments of which a part may be approved
    answers: dict[Place, Said] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    at_desk: list[Effect] = field(default_factory=list)  # what no operation of ours asked for
    on_the_wire: list[InFlight] = field(default_factory=list)
    asked: set[Place] = field(default_factory=set)
    kept: set[Place] = field(default_factory=set)  # under these keys stands a failure
    strays: set[str] = field(default_factory=set)  # gateway keys of calls that were refused and may be done after all
    cancelling: set[str] = field(default_factory=set)  # keys of voids by which a payment that waited came to nothing
    untold: list[Effect] = field(default_factory=list)  # strays that were done, of which nobody has heard
    acting: list[Effect] = field(default_factory=list)  # whose payer has to act, which no webhook has told yet
    objects: dict[tuple[GatewayName, AccountName], int] = field(default_factory=dict)  # how many it has made
    requests: dict[OpId, GatewayCallRequested] = field(default_factory=dict)  # the last call of each operation
    calls: int = 0
    now_ms: int = 0

    def strikes(self, percent: int, salt: str, key: str) -> bool:
        """Return whether a fate that follows from the key strikes."""
        return zlib.crc32(f"{salt}{key}".encode()) % 100 < percent

    # Calls

    def call(self, request: GatewayCallRequested, *, now_ms: int) -> Said:
        self.calls += 1
        self.now_ms = now_ms
        self.requests[request.op_id] = replace(request, kind=request.inquired_kind or request.kind)
        if request.kind is CallKind.INQUIRE:
            return self._found(request)
        if self.chance.randrange(100) < self.whims.unreachable:
            self._perhaps_contradict(request, now_ms=now_ms)
            return UNREACHABLE
        breaks = self.chance.randrange(100) < self.whims.broken_off
        if breaks and self.chance.random() < 0.5:
            self.asked.add(place_of(request))
            if self.chance.random() < HELD:
                self.hold(request, now_ms=now_ms)
            return self._broke_off(request)
        if self._refuses(request):
            throttles = self.strikes(50, "t", request.gateway_key)
            return self._broke_off(request) if breaks else THROTTLED if throttles else REFUSED
        if request.gateway not in HONOURS_KEYS:
            self.answers.pop(place_of(request), None)  # one more call is one more effect
        said = self._failure(request) or self._answer(request)
        return self._broke_off(request) if breaks else said

    def _broke_off(self, request: GatewayCallRequested) -> Said:
        return BUSY if self.strikes(50, "b", request.gateway_key) else BROKE_OFF

    def _failure(self, request: GatewayCallRequested) -> Said | None:
        """Return the failure that the gateway keeps under the key from its first call on, having done it or not."""
        place = place_of(request)
        if place in self.kept:
            return replace(KEPT_FAILURE, replayed=True)
        fails = request.gateway in HONOURS_KEYS and place not in self.answers
        if not fails or not self.strikes(self.whims.kept_failure, "k", request.gateway_key):
            return None
        if self.strikes(50, "kd", request.gateway_key):
            self._answer(request)
        self.kept.add(place)
        return KEPT_FAILURE

    def _perhaps_contradict(self, request: GatewayCallRequested, *, now_ms: int) -> None:
        """Perhaps do the call after all, some time, though its sender is told that it never arrived."""
        if self.whims.contradicted and self.chance.randrange(100) < self.whims.contradicted:
            self.strays.add(request.gateway_key)
            self.hold(request, now_ms=now_ms)

    def _refuses(self, request: GatewayCallRequested) -> bool:
        place = place_of(request)
        is_second = place in self.asked and place not in self.answers
        self.asked.add(place)
        return is_second and self.chance.randrange(100) < self.whims.refused

    def _answer(self, request: GatewayCallRequested) -> Said:
        place = place_of(request)
        if place in self.answers:
            return self.answers[place]
        if request.kind is CallKind.COMPLETE:
            said = self._completed(request)
        elif self.strikes(self.whims.declined, "d", request.op_id) or self._holds_nothing(request):
            said = DECLINED
        elif self._declines_here(request):
            said = DECLINED_HERE
        else:
            said = self._done(request)
        self.answers[place] = said
        return said

    def _declines_here(self, request: GatewayCallRequested) -> bool:
        here = f"{request.gateway}/{request.account} {request.op_id}"
        return request.kind in OPENING and self.strikes(self.whims.declined_here, "dh", here)

    def _done(self, request: GatewayCallRequested) -> Said:
        key = f"{request.gateway}{request.gateway_key}"
        acts = self.strikes(self.whims.action, "a", key)
        waits = acts or self.strikes(self.whims.pending, "p", key)
        part = request.kind in OPENING and self.strikes(self.whims.partial, "pa", request.op_id)
        amount_minor = request.amount_minor * PART_PERCENT // 100 if part else request.amount_minor
        effect = Effect(request, Outcome.PENDING, self.now_ms, self.new_object(request, amount_minor))
        self.effects.append(effect)
        if acts:
            self.acting.append(effect)
        if waits:
            said = Said(outcome=Outcome.PENDING, reference=effect.object.reference)
            return replace(said, outcome=Outcome.REQUIRES_ACTION, action_url=HAS_TO_ACT) if acts else said
        self.succeed(effect)
        return self._said_of(effect)

    def new_object(self, request: GatewayCallRequested, amount_minor: int) -> BankObject:
        """Return a new object; accounts of one gateway number theirs alike."""
        there = (request.gateway, request.account)
        self.objects[there] = self.objects.get(there, 0) + 1
        reference = f"{request.gateway}-{self.objects[there]}"
        return BankObject(reference=reference, kind=request.kind, gross_minor=amount_minor, balance_minor=amount_minor)

    def succeed(self, effect: Effect) -> Told:
        request = effect.request
        effect.outcome, effect.at_ms = Outcome.SUCCEEDED, self.now_ms
        told = effect.object.say(Outcome.SUCCEEDED, effect.object.gross_minor, None, at_ms=self.now_ms)
        if request.kind is CallKind.VOID:
            self._cancel_what_waits(request)
        if request.gateway_key in self.strays:
            self.untold.append(effect)
        return told

    def _said_of(self, effect: Effect) -> Said:
        """Return what the gateway answers of what it did, as it stands."""
        said = Said(outcome=effect.outcome, reference=effect.object.reference)
        if effect.outcome is Outcome.REVERSED:
            return replace(said, confirmed_minor=self._last_taken(effect).amount_minor)
        return replace(said, confirmed_minor=effect.object.gross_minor)

    def _last_taken(self, effect: Effect) -> Told:
        at_ms, outcome, amount_minor, case = max(
            (each for each in effect.object.statements if each[1] is not Outcome.DISPUTE_OPENED),
            key=lambda each: each[0],
        )
        return Told(outcome=outcome, amount_minor=amount_minor, case=case, at_ms=at_ms)

    def told_with(self, request: GatewayCallRequested, said: Said) -> Told | None:
        """Return the time and the case that an answer names: each that takes back does, and half of the successes."""
        if said.outcome not in {Outcome.SUCCEEDED, Outcome.REVERSED} or request.kind is CallKind.COMPLETE:
            return None
        place = place_of(request)
        effect = next((each for each in self.effects if place_of(each.request) == place), None)
        if effect is None or not effect.object.statements:
            return None
        if said.outcome is Outcome.REVERSED:
            return self._last_taken(effect)
        if not self.strikes(50, "time", request.gateway_key):
            return None
        at_ms = max(each[0] for each in effect.object.statements if each[1] is Outcome.SUCCEEDED)
        return Told(outcome=Outcome.SUCCEEDED, amount_minor=effect.object.gross_minor, case=None, at_ms=at_ms)

    def restate(self, effect: Effect) -> None:
        """Let an inquiry find the effect as it is now."""
        if effect in self.effects:
            gone = effect.object.balance_minor == 0
            effect.outcome = Outcome.REVERSED if gone else Outcome.SUCCEEDED
            self.answers[place_of(effect.request)] = self._said_of(effect)

    # The payer's next step, and what waits for it

    def _completed(self, request: GatewayCallRequested) -> Said:
        """Go on with the payment that waits for its payer: it succeeds, is declined, or wants one more step."""
        effect = self._waiting(request)
        if effect is None:
            return self._state_of_payment(request)
        if self.strikes(20, "cd", request.gateway_key):
            self.come_to_nothing(effect)
            return DECLINED
        if self.strikes(15, "ca", request.gateway_key):
            return Said(outcome=Outcome.REQUIRES_ACTION, reference=effect.object.reference, action_url=NEXT_PAGE)
        self.succeed(effect)
        self.restate(effect)
        return self._said_of(effect)

    def _waiting(self, request: GatewayCallRequested) -> Effect | None:
        waiting = [each for each in self.opening_of(request) if each.outcome is Outcome.PENDING]
        return waiting[0] if waiting else None

    def opening_of(self, request: GatewayCallRequested) -> list[Effect]:
        """Return what opened the payment at this very account."""
        there = (request.gateway, request.account)
        return [
            each
            for each in self.of_payment(request)
            if each.request.kind in OPENING and (each.request.gateway, each.request.account) == there
        ]

    def _state_of_payment(self, request: GatewayCallRequested) -> Said:
        opening = [each for each in self.opening_of(request) if each.request.gateway_key not in self.strays]
        if not opening:
            return DECLINED  # what waited was cancelled, or its payer failed
        if opening[0].outcome is Outcome.PENDING:
            return Said(outcome=Outcome.REQUIRES_ACTION, reference=opening[0].object.reference, action_url=HAS_TO_ACT)
        return replace(
            self._said_of(opening[0]), outcome=Outcome.SUCCEEDED, confirmed_minor=opening[0].object.gross_minor
        )

    def _cancel_what_waits(self, void: GatewayCallRequested) -> None:
        """Let the payment's waiting effect come to nothing; what let go of it stays so."""
        for each in self.of_payment(void):
            if each.outcome is Outcome.PENDING and each.request.kind in OPENING:
                self.come_to_nothing(each)
                self.cancelling.add(void.gateway_key)

    def come_to_nothing(self, effect: Effect) -> None:
        self.effects.remove(effect)
        self.answers[place_of(effect.request)] = replace(DECLINED, reference=effect.object.reference)

    def _holds_nothing(self, request: GatewayCallRequested) -> bool:
        """Return whether a capture or void comes when its authorization is gone already, or was let go at the desk."""
        if request.kind not in {CallKind.CAPTURE, CallKind.VOID}:
            return False
        if request.kind is CallKind.VOID and self.is_taken(request):
            return True
        gone = any(
            each.request.kind is CallKind.AUTHORIZE and (each.outcome is Outcome.REVERSED or each.expired)
            for each in self.of_payment(request)
        )
        return gone or any(
            each.request.kind is CallKind.VOID and each.outcome is not Outcome.REVERSED
            for each in self.at_desk_of(request)
        )

    def is_taken(self, void: GatewayCallRequested) -> bool:
        """Return whether the void's payment is a sale that was carried out: its payer acted first."""
        return any(
            each.request.kind is CallKind.SALE and each.outcome is not Outcome.PENDING for each in self.of_payment(void)
        )

    def of_payment(self, request: GatewayCallRequested) -> list[Effect]:
        return [each for each in self.effects if each.request.payment_id == request.payment_id]

    def at_desk_of(self, request: GatewayCallRequested) -> list[Effect]:
        return [each for each in self.at_desk if each.request.payment_id == request.payment_id]

    def _found(self, request: GatewayCallRequested) -> Said:
        if request.inquired_kind is CallKind.COMPLETE:
            return self._state_of_payment(request)
        said = self.answers.get(place_of(request))
        return said or UNREACHABLE  # said with certainty, about now: a call may still be on its way

    # Late arrivals

    def hold(self, request: GatewayCallRequested, *, now_ms: int) -> None:
        """Keep the call on its way: it arrives later, when nobody waits for its answer any more."""
        held_ms = self.chance.choice((50, 3_000, 20_000, 100_000, LONGEST_ON_THE_WAY_MS))
        self.on_the_wire.append(InFlight(request, now_ms + held_ms))
        self.on_the_wire.sort(key=lambda each: each.arrives_at_ms)

    def land(self, *, now_ms: int) -> None:
        """Let all calls arrive that are due. Each does what it asks, unless that was done already or its key failed."""
        self.now_ms = now_ms
        while self.on_the_wire and self.on_the_wire[0].arrives_at_ms <= now_ms:
            request = self.on_the_wire.pop(0).request
            if place_of(request) not in self.kept:
                self._answer(request)


def place_of(request: GatewayCallRequested) -> Place:
    return request.gateway, request.account, request.gateway_key
