"""Whether calls went where they may: as the pinned plan says, on only after what allows it, and later where money lies.

Read from the log (`read_moves`) when policies were swapped under load; each check returns sentences, one a violation.
Reads what is asked of gateways and what they answered; no routing of the engine's is called.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas import topics
from schemas.identifiers import OpId, PaymentId, gateway_route
from schemas.messages import DecodeError, MessageCodec
from schemas.records.claims import ClaimDecided, RoutePlan
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.records.orders import OrderRow
from schemas.vocabulary import CallKind, Outcome
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.log_reader import LogRecord, read_log

OPENING = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
MAX_RECORDS = 100_000_000


@dataclass(slots=True)
class Moves:
    """What the log tells of the way of each operation of a run."""

    plans: dict[OpId, RoutePlan] = field(default_factory=dict)
    asked: dict[OpId, dict[int, GatewayCallRequested]] = field(default_factory=dict)  # by the call's number
    answers: dict[tuple[OpId, int], GatewayCallCompleted] = field(default_factory=dict)

    def calls(self) -> Iterable[tuple[OpId, list[GatewayCallRequested]]]:
        """Return the calls of each operation, in their order."""
        for op_id, by_number in self.asked.items():
            yield op_id, [by_number[number] for number in sorted(by_number)]

    def versions(self) -> int:
        """Return how many policies payments were planned by: an origin's each, by its version."""
        return len({(each.origin_id, self.plans[op].policy_version) for op, each in self._opened() if op in self.plans})

    def first_routes(self) -> Counter[str]:
        """Return how many payments went to each route first."""
        return Counter(route_of(each) for _, each in self._opened())

    def went_on(self) -> int:
        """Return how many payments had more than one attempt."""
        return sum(calls[0].kind in OPENING and calls[-1].attempt > 1 for _, calls in self.calls())

    def _opened(self) -> Iterable[tuple[OpId, GatewayCallRequested]]:
        return ((op_id, calls[0]) for op_id, calls in self.calls() if calls[0].kind in OPENING)


async def read_moves(connection: KafkaConnection, codec: MessageCodec, *, run: str) -> Moves:
    """Return what stands on the log about the orders whose names begin with the run's."""
    moves = Moves()
    for topic in (topics.VERDICTS, topics.GATEWAY_REQUESTS, topics.GATEWAY_RESULTS):
        async for record in read_log(connection, topic, max_records=MAX_RECORDS):
            if record.key is not None and record.key.startswith(run.encode()):
                _take(moves, codec, record)
    return moves


def _take(moves: Moves, codec: MessageCodec, record: LogRecord) -> None:
    try:
        _, each = codec.decode(record.value, record.headers)
    except DecodeError:
        return  # poison
    match each:
        case ClaimDecided(granted=True):
            moves.plans.setdefault(each.op_id, each.plan)
        case GatewayCallRequested():
            # Said again by a worker that took over: the same call.
            moves.asked.setdefault(each.op_id, {}).setdefault(each.call_number, each)
        case GatewayCallCompleted():
            moves.answers.setdefault((each.op_id, each.call_number), each)
        case _:
            pass


def route_of(asked: GatewayCallRequested) -> str:
    """Return where the call went."""
    return gateway_route(asked.gateway, asked.account)


def moved_after_intent(moves: Moves) -> list[str]:
    """A payment goes where its pinned plan says, and on only after what proves that nothing is held, or may."""
    faults = []
    for op_id, asked in moves.calls():
        plan = moves.plans.get(op_id)
        if asked[0].kind not in OPENING:
            continue
        if plan is None:
            faults.append(f"{op_id} was sent to {route_of(asked[0])} by no plan")
            continue
        for before, after in itertools.pairwise(asked):
            if before.attempt != after.attempt and not _may_go_on(moves, asked, before.attempt, plan):
                faults.append(f"{op_id} went on from {route_of(before)} to {route_of(after)} without leave to")
        faults += [
            f"{op_id} attempt {each.attempt} went to {route_of(each)}, planned {plan.gateways}"
            for each in asked
            if plan.gateways[each.attempt - 1] != route_of(each)
        ]
    return faults


def _may_go_on(moves: Moves, asked: Iterable[GatewayCallRequested], attempt: int, plan: RoutePlan) -> bool:
    """Say whether an answer to a call of this attempt, or to an inquiry about it, lets the payment go on."""
    answers = [moves.answers.get((each.op_id, each.call_number)) for each in asked if each.attempt == attempt]
    return any(answer is not None and _lets_go_on(answer, plan) for answer in answers)


def _lets_go_on(answer: GatewayCallCompleted, plan: RoutePlan) -> bool:
    if answer.outcome is Outcome.NOT_EXECUTED:
        return True
    declined = answer.outcome is Outcome.DECLINED and answer.sole and answer.error is not None
    return declined and answer.error is not None and answer.error.decline_class in plan.fallback_classes


def later_elsewhere(moves: Moves, rows: Iterable[OrderRow]) -> list[str]:
    """Each capture, void, refund, completion and inquiry goes where its payment lives."""
    homes: Mapping[PaymentId, str] = {
        payment.payment_id: gateway_route(payment.gateway, payment.account)
        for row in rows
        for payment in row.payments
        if payment.gateway is not None
    }
    return [
        f"{op_id} {each.kind} went to {route_of(each)}, its payment is at {homes.get(each.payment_id)}"
        for op_id, asked in moves.calls()
        for each in asked
        if asked[0].kind not in OPENING and homes.get(each.payment_id) != route_of(each)
    ]


def unused(moves: Moves, routes: Iterable[str], *, swaps: int) -> list[str]:
    """The run proves something: every account was used, many policies were in force, and payments went on."""
    first = moves.first_routes()
    faults = [f"no payment went to {route} first" for route in routes if not first[route]]
    if moves.versions() <= swaps // 2:
        faults.append(f"payments were planned by {moves.versions()} policies, and {swaps} were in force")
    return faults if moves.went_on() else [*faults, "no payment went on to another gateway"]
