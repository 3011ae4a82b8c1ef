"""The executor and the gateways of the crash model.

A gateway keeps what it did under each idempotency key, for ever, as real ones do inside their window, or it does not
honour keys at all (`HONOURS_KEYS`). Its whims: it may be unreachable, break off before or after it did what it was
asked (and do it when nobody waits any more), decline, let the final word wait for a webhook or for the payer, take back
what it did, or contradict itself: do late what it said that it had not done, and tell of it by a webhook.
"""

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from gateway_adapters.contract import GatewayNotice
from schemas.identifiers import GatewayName, OpId
from schemas.records.decisions import DecisionMade
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome, RetryAdvice
from streams.executor.past_results import CLOCK_SKEW_MS, HORIZON_MS, MARGIN_MS
from tests.support.crash_log import Entry, Faults, Logs, Worker, Write
from tests.support.order_desk import Said, completed, error

REQUESTS: Final = "gateway.requests"
RESULTS: Final = "gateway.results"
WEBHOOKS: Final = "gateway.webhooks"

ON_THE_WIRE: Final = 0.5
"""How likely a call that was under way at a crash reaches its gateway later."""

HONOURS_KEYS: Final = frozenset({"alpha"})
"""The others do again what they are asked again: they may only be inquired."""

LONGEST_ON_THE_WAY_MS: Final = 15 * 60_000
"""How long a call may be held by the network; `streams.domain.limits.LATE_CALL_MS` must be more."""

HELD: Final = 0.5
"""How likely a call that broke off before it arrived is only held on its way, and arrives after all."""

MAX_UNDER_WAY: Final = 4

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
    declined: int = 0
    pending: int = 0
    action: int = 0  # the payer has to act first
    taken_back: int = 0
    contradicted: int = 0  # of the calls that found it unreachable


@dataclass(slots=True)
class Effect:
    """What a gateway did: the witness that the engine's own view is held against."""

    request: GatewayCallRequested
    outcome: Outcome  # SUCCEEDED, PENDING or REVERSED
    at_ms: int  # since when


@dataclass(frozen=True, slots=True)
class InFlight:
    """A call that its sender has given up and that still may arrive."""

    request: GatewayCallRequested
    arrives_at_ms: int


@dataclass(slots=True)
class Gateways:
    """All gateways: their memory by name and key, and what they did in the order they did it."""

    chance: random.Random
    whims: Whims
    answers: dict[tuple[str, str], Said] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    by_key: dict[str, Effect] = field(default_factory=dict)
    on_the_wire: list[InFlight] = field(default_factory=list)
    asked: set[tuple[str, str]] = field(default_factory=set)
    strays: set[str] = field(default_factory=set)  # gateway keys of calls that were refused and may be done after all
    untold: list[Effect] = field(default_factory=list)  # strays that were done, of which nobody has heard
    calls: int = 0
    now_ms: int = 0

    def _is(self, percent: int, salt: str, key: str) -> bool:
        """Return whether a fate that follows from the key strikes."""
        return zlib.crc32(f"{salt}{key}".encode()) % 100 < percent

    def call(self, request: GatewayCallRequested, *, now_ms: int) -> Said:
        self.calls += 1
        self.now_ms = now_ms
        if request.kind is CallKind.INQUIRE:
            return self._found(request)
        if self.chance.randrange(100) < self.whims.unreachable:
            self._perhaps_contradict(request, now_ms=now_ms)
            return UNREACHABLE
        breaks = self.chance.randrange(100) < self.whims.broken_off
        if breaks and self.chance.random() < 0.5:
            self.asked.add((request.gateway, request.gateway_key))
            if self.chance.random() < HELD:
                self.hold(request, now_ms=now_ms)
            return self._broke_off(request)
        if self._refuses(request):
            throttles = self._is(50, "t", request.gateway_key)
            return self._broke_off(request) if breaks else THROTTLED if throttles else REFUSED
        if request.gateway not in HONOURS_KEYS:
            self.answers.pop((request.gateway, request.gateway_key), None)  # one more call is one more effect
        said = self._answer(request)
        return self._broke_off(request) if breaks else said

    def _broke_off(self, request: GatewayCallRequested) -> Said:
        return BUSY if self._is(50, "b", request.gateway_key) else BROKE_OFF

    def _perhaps_contradict(self, request: GatewayCallRequested, *, now_ms: int) -> None:
        """Perhaps do the call after all, some time, though its sender is told that it never arrived."""
        if self.whims.contradicted and self.chance.randrange(100) < self.whims.contradicted:
            self.strays.add(request.gateway_key)
            self.hold(request, now_ms=now_ms)

    def _refuses(self, request: GatewayCallRequested) -> bool:
        place = (request.gateway, request.gateway_key)
        is_second = place in self.asked and place not in self.answers
        self.asked.add(place)
        return is_second and self.chance.randrange(100) < self.whims.refused

    def _answer(self, request: GatewayCallRequested) -> Said:
        key = f"{request.gateway}{request.gateway_key}"
        place = (request.gateway, request.gateway_key)
        if place in self.answers:
            return self.answers[place]
        if self._is(self.whims.declined, "d", request.op_id) or self._holds_nothing(request):
            said = DECLINED
        else:
            said = self._done(request, key)
        self.answers[place] = said
        return said

    def _done(self, request: GatewayCallRequested, key: str) -> Said:
        acts = self._is(self.whims.action, "a", key)
        outcome = Outcome.PENDING if acts or self._is(self.whims.pending, "p", key) else Outcome.SUCCEEDED
        effect = Effect(request, outcome, self.now_ms)
        self.effects.append(effect)
        self.by_key[request.gateway_key] = effect
        if request.gateway_key in self.strays and outcome is Outcome.SUCCEEDED:
            self.untold.append(effect)
        reference = f"{request.gateway}-{request.gateway_key}"
        if acts:
            return Said(outcome=Outcome.REQUIRES_ACTION, reference=reference, action_url=HAS_TO_ACT)
        return Said(outcome=outcome, reference=reference)

    def _holds_nothing(self, request: GatewayCallRequested) -> bool:
        """Return whether a capture or void comes when its authorization was taken back already."""
        return request.kind in {CallKind.CAPTURE, CallKind.VOID} and any(
            each.request.kind is CallKind.AUTHORIZE and each.outcome is Outcome.REVERSED
            for each in self._of_payment(request)
        )

    def _of_payment(self, request: GatewayCallRequested) -> list[Effect]:
        return [each for each in self.effects if each.request.payment_id == request.payment_id]

    def _found(self, request: GatewayCallRequested) -> Said:
        said = self.answers.get((request.gateway, request.gateway_key))
        return said or UNREACHABLE  # said with certainty, about now: a call may still be on its way

    def hold(self, request: GatewayCallRequested, *, now_ms: int) -> None:
        """Keep the call on its way: it arrives later, when nobody waits for its answer any more."""
        held_ms = self.chance.choice((50, 3_000, 20_000, 100_000, LONGEST_ON_THE_WAY_MS))
        self.on_the_wire.append(InFlight(request, now_ms + held_ms))
        self.on_the_wire.sort(key=lambda each: each.arrives_at_ms)

    def land(self, *, now_ms: int) -> None:
        """Let all calls arrive that are due. Each does what it asks, unless that was done already."""
        self.now_ms = now_ms
        while self.on_the_wire and self.on_the_wire[0].arrives_at_ms <= now_ms:
            self._answer(self.on_the_wire.pop(0).request)

    def notice(self) -> GatewayNotice | None:
        """Let one pending effect find its end, or take one success back; return the webhook about it.

        A stray is told of first: that it was taken back would mean nothing to who never heard of it.
        """
        if self.untold:
            return _notice(self.untold.pop(0), number=len(self.effects))
        pending = [effect for effect in self.effects if effect.outcome is Outcome.PENDING]
        done = [effect for effect in self.effects if effect.outcome is Outcome.SUCCEEDED]
        if pending:
            effect = self.chance.choice(pending)
            effect.outcome, effect.at_ms = Outcome.SUCCEEDED, self.now_ms
        elif done and self.chance.randrange(100) < self.whims.taken_back:
            effect = self.chance.choice(done)
            if effect.request.kind is CallKind.AUTHORIZE and self._is_let_go(effect.request):
                return None  # nothing is held any more that could be taken back
            effect.outcome, effect.at_ms = Outcome.REVERSED, self.now_ms
        else:
            return None
        place = (effect.request.gateway, effect.request.gateway_key)
        self.answers[place] = replace(self.answers[place], outcome=effect.outcome)
        return _notice(effect, number=len(self.effects))

    def tell_truth(self, decision: DecisionMade, gateway: GatewayName) -> list[GatewayNotice]:
        """Return the webhooks that say what became of an operation which a person judged, dated by when it became so.

        Of one that was taken back there is nothing more to say. Only when no call of it is on its way any more.
        """
        own = [each for each in self.effects if each.request.op_id == decision.op_id]
        if own:
            done = [each for each in own if each.outcome is Outcome.SUCCEEDED]
            return [_notice(each, number=len(self.effects)) for each in done]
        refusal = GatewayNotice(
            gateway=gateway,
            notice_id=f"truth-{decision.op_id}",
            origin_id=decision.origin_id,
            order_id=decision.order_id,
            op_id=decision.op_id,
            kind=None,
            outcome=Outcome.DECLINED,
            gateway_reference=None,
            payment_reference=None,
            confirmed_amount_minor=None,
            confirmed_currency=None,
            error=DECLINED.error,
            occurred_at_ms=self.now_ms,
        )
        return [refusal]

    def _is_let_go(self, authorized: GatewayCallRequested) -> bool:
        """Return whether the authorization was voided, or what was left of it released by a final capture."""
        return any(
            each.request.final or (each.request.kind is CallKind.VOID and each.outcome is not Outcome.REVERSED)
            for each in self._of_payment(authorized)
        )


def _notice(effect: Effect, *, number: int) -> GatewayNotice:
    request = effect.request
    return GatewayNotice(
        gateway=request.gateway,
        notice_id=f"n{number}-{request.gateway_key}-{effect.outcome}",
        origin_id=request.origin_id,
        order_id=request.order_id,
        op_id=request.op_id,
        kind=request.kind,
        outcome=effect.outcome,
        gateway_reference=f"{request.gateway}-{request.gateway_key}",
        payment_reference=None,
        confirmed_amount_minor=request.amount_minor,
        confirmed_currency=request.currency,
        error=None,
        occurred_at_ms=effect.at_ms,
    )


Call = tuple[OpId, CallKind, int, int]
"""Operation, kind, attempt and call number: what makes two requests the same call."""


class Executor(Worker[None]):
    """Plays the rules of `streams.executor`: the results topic is its memory.

    A request whose answer is on that topic, as far back as it remembers, or was given in this life, gets it once more
    and is not made. Any other is made, with the same gateway key each time; that a possible second sending was refused
    counts as UNKNOWN. Where the gateway keeps no keys, where the memory does not reach back to the request, or when an
    operator has brought it back, an inquiry is made instead, and proves nothing by finding nothing. What was under way
    when it crashed may reach the gateway later still, and nobody hears the answer.
    """

    name = "executor"
    inputs = (REQUESTS,)
    mortal = frozenset({REQUESTS})

    def __init__(self, logs: Logs, chance: random.Random, faults: Faults, gateways: Gateways, *, forgets: bool) -> None:
        self._gateways = gateways
        self._forgets = forgets
        self._under_way: list[GatewayCallRequested] = []
        super().__init__(logs, chance, faults)

    def start(self) -> None:
        super().start()
        on_the_log: dict[Call, GatewayCallCompleted] = {}
        ahead = self.logs.topics[REQUESTS][self.committed[REQUESTS] :]
        first_ms = min([each.at_ms for each in ahead], default=self.logs.now_ms)
        self._since_ms = min(first_ms, self.logs.now_ms - HORIZON_MS) - MARGIN_MS
        for entry in self.logs.topics[RESULTS]:
            if entry.at_ms >= self._since_ms:
                on_the_log.setdefault(call_of(entry.value), entry.value)
        self._answers = {} if self._forgets else on_the_log
        heard = {call_of(entry.value) for entry in self.logs.topics[RESULTS]}
        unheard = [each for each in self._under_way if call_of(each) not in heard]
        for each in unheard:
            if self.chance.random() < ON_THE_WIRE:
                self._gateways.hold(each, now_ms=self.logs.now_ms)
        self._under_way = []

    def handle(self, topic: str, entry: Entry, *, possible_replay: bool) -> Iterable[Write]:
        request: GatewayCallRequested = entry.value
        result = self._answers.get(call_of(request))
        if result is None:
            again = possible_replay or request.repeated or entry.redriven
            beyond = entry.redriven or (again and request.requested_at_ms - CLOCK_SKEW_MS < self._since_ms)
            said = self._made(request, again=again, beyond_memory=beyond)
            result = completed(request, said, now_ms=entry.at_ms)
            if request.kind is not CallKind.INQUIRE:
                self._under_way = [*self._under_way, request][-MAX_UNDER_WAY:]
            if not self._forgets:
                self._answers[call_of(request)] = result
        yield Write(RESULTS, request.order_id, result)

    def _made(self, request: GatewayCallRequested, *, again: bool, beyond_memory: bool) -> Said:
        inquired = again and (beyond_memory or request.gateway not in HONOURS_KEYS) and not self._forgets
        asked = replace(request, kind=CallKind.INQUIRE) if inquired else request
        said = self._gateways.call(asked, now_ms=self.logs.now_ms)
        weakened = again and request.kind is not CallKind.INQUIRE and said.outcome is Outcome.NOT_EXECUTED
        return replace(said, outcome=Outcome.UNKNOWN) if weakened else said


def call_of(record: GatewayCallRequested | GatewayCallCompleted) -> Call:
    """Return which call a request asks for, or a result answers."""
    return record.op_id, record.kind, record.attempt, record.call_number
