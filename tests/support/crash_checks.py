"""What must hold at the end of every run of the crash model, whatever crashed: `violations` returns what does not.

The witness is what the gateways did, and what became of it there (`crash_calls.Effect`). Two things are excused where a
person was asked, since nobody else can tell: that a payment's sums are others than its gateway's after a person has
judged it, after somebody has worked at the gateway's own desk while one of our operations had no name there yet, and
where a part was approved and something was taken back before anybody told how much that was.
And a person who takes back what a gateway has done is believed until the gateway says something new: nobody is asked.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from schemas.event_types import Transition
from schemas.identifiers import OpId, PaymentId
from schemas.records.commands import op_id_of
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.records.orders import OrderRow
from schemas.records.payments import OperationReplied
from schemas.vocabulary import CallKind, DecisionRefusal, Initiator, OperationKind, OperationState, Outcome, Verdict
from streams.domain.outputs import Publish
from streams.domain.sums import UNANSWERED, UNSETTLED
from streams.domain.words import are_decided
from tests.support.crash_calls import REQUESTS, RESULTS, Effect
from tests.support.crash_desk import ABOUT_MONEY, decided_ops, judged_wrongly
from tests.support.crash_orders import EVENTS, REPLIES
from tests.support.crash_references import LETTERS
from tests.support.crash_telling import OPENING
from tests.support.crash_witness import in_silence, parts_let_go
from tests.support.crash_world import World, request_id
from tests.support.exhibits import sums_of

ENDS: Final = frozenset({Transition.SUCCEEDED, Transition.DECLINED, Transition.FAILED, Transition.REJECTED})
ON_THE_WAY: Final = frozenset(
    {Transition.ACCEPTED, Transition.PENDED, Transition.ACTION_REQUIRED, Transition.DOUBTED, Transition.NOTED}
)
"""Facts that say nothing of money."""
Sums = defaultdict[PaymentId, list[int]]  # authorized, captured, refunded


def violations(world: World, *, same_content: bool) -> list[str]:
    """Return what was broken, one line each. `same_content`: an event id must stand for one content, to the byte."""
    return [
        *_unanswered(world),
        *_answered_twice_differently(world),
        *_effects(world),
        *_unfinished(world),
        *_contradictions(world),
        *_events(world, same_content=same_content),
        *_sums(world),
        *world.orders.subtotals_not_of_rows(),
        *in_silence(world.gateways, looked_at(world) | _overruled(world)),
        *_disputes(world),
        *_lost(world),
        *judged_wrongly(world.orders.orders, world.gateways.effects, looked_at(world)),
        *_answered_at_the_desk(world),
        *came_back(world),
        *_told_nowhere_to_act(world),
    ]


def _told_nowhere_to_act(world: World) -> Iterator[str]:
    """Yield each operation whose payer is told to act and not where: a webhook does not say it, an inquiry does."""
    for entry in world.logs.topics[EVENTS]:
        told = entry.value.event.operation
        if entry.value.transition is Transition.ACTION_REQUIRED and told.action_url is None:
            yield f"no page {told.op_id}"


def came_back(world: World) -> Iterator[str]:
    """Yield each payment that is asked of a gateway's account again which has declined it.

    An owner that is behind may have missed the decline: it asks once more, with a new key, and nothing is held.
    """
    if world.scenario.zombies:
        return
    declined: dict[tuple[OpId, str, str], int] = {}
    for entry in world.logs.topics[RESULTS]:
        said: GatewayCallCompleted = entry.value
        if said.outcome is Outcome.DECLINED and said.kind in OPENING:
            declined.setdefault((said.op_id, said.gateway, said.account), said.attempt)
    for entry in world.logs.topics[REQUESTS]:
        asked: GatewayCallRequested = entry.value
        at = declined.get((asked.op_id, asked.gateway, asked.account))
        if at is not None and asked.attempt > at and asked.kind in OPENING:
            yield f"back {asked.op_id} at {asked.gateway} after its decline"


def _answered_at_the_desk(world: World) -> Iterator[str]:
    """Each decision is answered, and in the same words each time."""
    told: dict[str, set[DecisionRefusal | None]] = defaultdict(set)
    for entry in world.logs.topics[REPLIES]:
        if entry.value.decision is not None:
            told[entry.value.request_id].add(entry.value.decision.refusal)
    yield from (f"decision {name} answered {answers}" for name, answers in told.items() if len(answers) > 1)
    heard = {each.decision_id for each in world.person.decided} - world.orders.dead_decisions
    yield from (f"unanswered decision {name}" for name in heard if not told[name])


def _reviewed(world: World) -> set[OpId]:
    """Return the operations that a person was asked about."""
    return {
        entry.value.event.operation.op_id
        for entry in world.logs.topics[EVENTS]
        if entry.value.transition is Transition.REVIEWED
    }


def looked_at(world: World) -> frozenset[PaymentId]:
    """Return the payments that are under review, or were until a person closed that."""
    closed = {
        entry.value.event.payment_id
        for entry in world.logs.topics[EVENTS]
        if entry.value.transition is Transition.DECIDED
    }
    return frozenset(closed | {each.payment_id for row in world.orders.orders for each in row.payments if each.review})


def _lost(world: World) -> Iterator[str]:
    """Yield each webhook that waits for a reference which is known, or that nobody was found for."""
    rows = world.index.rows
    for key, row in rows.items():
        kind, _, reference = key.partition("|")
        if kind == "parked" and row:
            yield f"parked {reference} known {rows.get(f'ref|{reference}') is not None}"
    yield from (f"letter {entry.key}" for entry in world.logs.topics[LETTERS])


def _contradictions(world: World) -> Iterator[str]:
    """What a gateway did after it had said that it did not is the operation's success, or for a person to judge."""
    yield from world.orders.paid_knowingly
    reviewed = _reviewed(world)
    contradicted = {each.request.op_id for each in world.gateways.effects if _is_stray(world, each)}
    contradicted |= decided_ops(world.orders.orders)
    at_desk = {(each.request.payment_id, each.request.kind.value) for each in world.gateways.at_desk}
    operations = {each.op_id: each for row in world.orders.orders for each in row.operations}
    seen = looked_at(world)
    for op_id in reviewed:
        operation = operations[op_id]
        # What was done at the desk while ours had no name there may have been taken for ours.
        if op_id not in contradicted and (operation.payment_id, operation.kind.value) not in at_desk:
            yield f"reviewed {op_id}"
        if any(each.op_id == op_id for row in world.orders.orders for each in row.payments):
            yield from [] if operation.payment_id in seen else [f"unreviewed {op_id}"]


def _is_stray(world: World, effect: Effect) -> bool:
    return effect.request.gateway_key in world.gateways.strays


def _accounted(world: World) -> Iterator[Effect]:
    """Yield the effects that the engine's sums are made of: of an operation under review, the one that it confirmed."""
    reviewed = _reviewed(world)
    confirmed = {each.op_id: each.gateway_reference for row in world.orders.orders for each in row.operations}
    for effect in world.gateways.effects:
        request = effect.request
        reference = effect.object.reference
        if request.op_id not in reviewed or confirmed.get(request.op_id) == reference:
            yield effect


def _final_replies(world: World) -> dict[str, list[OperationReplied]]:
    replies: dict[str, list[OperationReplied]] = defaultdict(list)
    for entry in world.logs.topics[REPLIES]:
        if entry.value.final and entry.value.decision is None:
            replies[entry.value.request_id].append(entry.value)
    return replies


def _unanswered(world: World) -> Iterator[str]:
    replies = _final_replies(world)
    for number, command in enumerate(world.sent):
        if not replies[request_id(number)]:
            yield f"unanswered {request_id(number)} {op_id_of(command)}"


def _answered_twice_differently(world: World) -> Iterator[str]:
    """A request may hear that the last word is still to come, and then the last word, but not two last words."""
    decided = decided_ops(world.orders.orders)
    first: dict[OpId, str] = {}
    for number, command in enumerate(world.sent):
        first.setdefault(op_id_of(command), request_id(number))
    for request, replies in _final_replies(world).items():
        answers = set()
        for reply in replies:
            assert reply.operation is not None
            answers.add((reply.operation.op_id, reply.operation.state, reply.operation.rejection))
            if reply.replayed is (first[reply.operation.op_id] == request):
                yield f"wrongly replayed {request}"
        if answers and next(iter(answers))[0] in decided:
            continue  # the gateway's later word may be another than the person's
        last = {answer for answer in answers if answer[1] not in UNSETTLED | {OperationState.REVERSED}}
        if len(last) > 1 or len({answer[0] for answer in answers}) > 1:
            yield f"two answers {request} {sorted(answers, key=str)}"


def _effects(world: World) -> Iterator[str]:
    """At most one effect an operation, one operation a key, and each order's effects in the order of its commands."""
    by_op: dict[OpId, int] = defaultdict(int)
    in_order: dict[str, list[OpId]] = defaultdict(list)
    for effect in _accounted(world):
        by_op[effect.request.op_id] += 1
        in_order[effect.request.order_id].append(effect.request.op_id)
    yield from (f"effect twice {op_id}" for op_id, count in by_op.items() if count > 1)
    asked: dict[str, list[OpId]] = defaultdict(list)
    keys: dict[str, set[OpId]] = defaultdict(set)
    for command in world.sent:
        op_id = op_id_of(command)
        if op_id not in asked[command.order_id]:
            asked[command.order_id].append(op_id)
        if op_id in by_op:
            keys[command.idempotency_key].add(op_id)
    yield from (f"key {key} granted twice" for key, ops in keys.items() if len(ops) > 1)
    decided = decided_ops(world.orders.orders)  # what was held for not executed may be executed yet, out of its turn
    # A refund lets others pass while it is in doubt, so it may be carried out after them.
    free = decided | _doubted_refunds(world.orders.orders)
    for order, ops in in_order.items():
        once = [op_id for op_id in dict.fromkeys(ops) if op_id not in free and op_id in asked[order]]
        if once != [op_id for op_id in asked[order] if op_id in by_op and op_id not in free]:
            yield f"order broken {order}"


def _doubted_refunds(rows: Iterable[OrderRow]) -> set[OpId]:
    return {
        each.op_id
        for row in rows
        for each in row.operations
        if each.kind is OperationKind.REFUND and any(fact.transition == Transition.DOUBTED for fact in each.events)
    }


def _unfinished(world: World) -> Iterator[str]:
    states = {each.op_id: each.state for row in world.orders.orders for each in row.operations}
    settled = {OperationState.MANUAL_REVIEW}  # `_contradictions` says whether it should be
    for command in world.sent:
        state = states.get(op_id_of(command))
        if state is None or state in (UNANSWERED | UNSETTLED) - settled:
            yield f"unfinished {command.order_id} {op_id_of(command)} {state}"
    for row in world.orders.orders:
        for each in row.operations:
            if each.initiator is Initiator.ENGINE and each.state in (UNANSWERED | UNSETTLED) - settled:
                yield f"unfinished {row.order_id} own {each.op_id} {each.state}"


def _published(world: World) -> dict[str, list[Publish]]:
    published: dict[str, list[Publish]] = defaultdict(list)
    for entry in world.logs.topics[EVENTS]:
        published[entry.value.event_id].append(entry.value)
    return published


def _events(world: World, *, same_content: bool) -> Iterator[str]:
    ends: dict[OpId, list[Transition]] = defaultdict(list)
    for event_id, copies in _published(world).items():
        op_id, transition = copies[0].event.operation.op_id, copies[0].transition
        if transition in ENDS:
            ends[op_id].append(transition)
        if same_content and any(copy != copies[0] for copy in copies):
            yield f"two contents {event_id} {transition}"
        if any(copy.event.operation.state != copies[0].event.operation.state for copy in copies):
            yield f"two states {event_id} {transition}"
    for row in world.orders.orders:
        for operation in row.operations:
            if operation.initiator is Initiator.GATEWAY:
                continue  # it was there when it became known
            twice = are_decided(operation.words) and set(ends[operation.op_id]) == {
                Transition.FAILED,
                Transition.SUCCEEDED,
            }
            if not twice and len(ends[operation.op_id]) != (operation.state is not OperationState.MANUAL_REVIEW):
                yield f"outcomes {operation.op_id} {operation.state} {ends[operation.op_id]}"


def _moved(sums: Sums, payment: PaymentId, kind: CallKind, amount_minor: int) -> None:
    if kind in OPENING:
        sums[payment][0] += amount_minor
    if kind in {CallKind.CAPTURE, CallKind.SALE}:
        sums[payment][1] += amount_minor
    if kind is CallKind.REFUND:
        sums[payment][2] += amount_minor


def _told(world: World) -> Sums:
    """Return the sums that the world was told: each operation counts for what its last fact about money says."""
    facts = sorted((copies[0] for copies in _published(world).values()), key=lambda each: each.event.sequence)
    last = {each.event.operation.op_id: each.event for each in facts if each.transition not in ON_THE_WAY}
    told: Sums = defaultdict(lambda: [0, 0, 0])
    for event in last.values():
        operation, payment_id = event.operation, event.payment_id
        moves = operation.initiator is not Initiator.ENGINE and operation.kind is not OperationKind.COMPLETE
        if payment_id is not None and moves:
            _moved(told, payment_id, CallKind(operation.kind.value), operation.counted_minor)
    return told


def _decided(world: World) -> frozenset[PaymentId]:
    return frozenset(each.payment_id for each in world.person.decided if each.verdict in ABOUT_MONEY)


def _overruled(world: World) -> frozenset[PaymentId]:
    """Return the payments of which a person has taken something back, rightly or not."""
    return frozenset(each.payment_id for each in world.person.decided if each.verdict is Verdict.TAKEN_BACK)


def _unclear(world: World) -> frozenset[PaymentId]:
    """Return the payments of which nobody but a person can tell the sums, and was asked: see the module's docstring."""
    at_desk = frozenset(each.request.payment_id for each in world.gateways.at_desk)
    in_part = frozenset(each.request.payment_id for each in world.gateways.effects if each.is_part)
    return ((at_desk | in_part | _decided(world)) & looked_at(world)) | _overruled(world)


def _disputes(world: World) -> Iterator[str]:
    """What is disputed at the gateway is what the world was told last."""
    told: dict[PaymentId, int] = defaultdict(int)
    facts = sorted((copies[0] for copies in _published(world).values()), key=lambda each: each.event.sequence)
    for fact in facts:
        if fact.event.payment is not None:
            told[fact.event.payment.payment_id] = fact.event.payment.disputed_minor
    disputed: dict[PaymentId, int] = defaultdict(int)
    for effect in [*_accounted(world), *world.gateways.at_desk]:
        disputed[effect.request.payment_id] += sum(effect.object.disputes.values())
    unclear = _unclear(world)
    for payment_id, disputed_minor in disputed.items():
        if payment_id not in unclear and told[payment_id] != disputed_minor:
            yield f"disputed {payment_id} told {told[payment_id]} at the gateway {disputed_minor}"


def _sums(world: World) -> Iterator[str]:
    """The gateways' ledger, the rows and the events tell the same, to the cent."""
    ledger: Sums = defaultdict(lambda: [0, 0, 0])
    let_go = parts_let_go(world.gateways)
    for effect in [*_accounted(world), *world.gateways.at_desk]:
        if effect.request.payment_id not in let_go:
            _moved(ledger, effect.request.payment_id, effect.request.kind, effect.counts_minor)
    told, unclear = _told(world), _unclear(world)
    decided = _decided(world)
    for row in world.orders.orders:
        for payment in row.payments:
            own = sums_of(row, payment.payment_id)
            kept = [own.authorized, own.captured, own.refunded]
            for name, sums in (("ledger", ledger), ("events", told)):
                # A hold that was taken back while a person held it for used up is nobody's word any more.
                skipped = 1 if name == "ledger" and payment.payment_id in decided else 0
                if name == "ledger" and payment.payment_id in unclear:
                    continue  # a person is asked
                if sums[payment.payment_id][skipped:] != kept[skipped:]:
                    yield f"{name} {payment.payment_id} {sums[payment.payment_id]} row {kept}"
