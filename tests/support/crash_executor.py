"""The executor of the crash model: it plays the rules of `streams.executor`, the results topic is its memory."""

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from schemas.identifiers import OpId
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from streams.executor.past_results import CLOCK_SKEW_MS, HORIZON_MS, MARGIN_MS
from tests.support.crash_calls import HONOURS_KEYS, REQUESTS, RESULTS
from tests.support.crash_gateways import Gateways
from tests.support.crash_log import Entry, Faults, Logs, Worker, Write
from tests.support.order_desk import completed

ON_THE_WIRE: Final = 0.5
"""How likely a call that was under way at a crash reaches its gateway later."""

MAX_UNDER_WAY: Final = 4

Call = tuple[OpId, CallKind, int, int]
"""Operation, kind, attempt and call number: what makes two requests the same call."""


class Executor(Worker[None]):
    """Makes the calls that orders ask for, and writes down what came of them.

    A request whose answer is on that topic, as far back as it remembers, or was given in this life, gets it once more
    and is not made. Any other is made, with the same gateway key each time; that a possible second sending was refused
    counts as UNKNOWN, and that it was declined is not its sole answer. Where the gateway keeps no keys, where the
    memory does not reach back to the request, or when an operator has brought it back, an inquiry is made instead, and
    proves nothing by finding nothing. What was under way when it crashed may reach the gateway later still, and nobody
    hears the answer.
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
            result = self._made(request, again=again, beyond_memory=beyond, now_ms=entry.at_ms)
            if request.kind is not CallKind.INQUIRE:
                self._under_way = [*self._under_way, request][-MAX_UNDER_WAY:]
            if not self._forgets:
                self._answers[call_of(request)] = result
        yield Write(RESULTS, request.order_id, result)

    def _made(
        self, request: GatewayCallRequested, *, again: bool, beyond_memory: bool, now_ms: int
    ) -> GatewayCallCompleted:
        inquired = again and (beyond_memory or request.gateway not in HONOURS_KEYS) and not self._forgets
        asked = replace(request, kind=CallKind.INQUIRE, inquired_kind=request.kind) if inquired else request
        if request.kind is CallKind.INQUIRE:
            asked = request
        said = self._gateways.call(asked, now_ms=self.logs.now_ms)
        weakened = again and request.kind is not CallKind.INQUIRE and said.outcome is Outcome.NOT_EXECUTED
        counts = replace(said, sole=not again, outcome=Outcome.UNKNOWN if weakened else said.outcome)
        result = completed(request, counts, now_ms=now_ms)
        told = self._gateways.told_with(request, said)
        if told is None:
            return result
        return replace(result, occurred_at_ms=told.at_ms, case_reference=told.case)


def call_of(record: GatewayCallRequested | GatewayCallCompleted) -> Call:
    """Return which call a request asks for, or a result answers."""
    return record.op_id, record.kind, record.attempt, record.call_number
