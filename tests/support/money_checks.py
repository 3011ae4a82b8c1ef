"""Whether the money is right: one effect an operation, and ledger, events and rows alike to the cent.

Checks of `checker`; each returns sentences, one a violation.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from gateway_adapters.errors import Code
from schemas.event_types import Transition, event_type
from schemas.messages import Envelope
from schemas.records.commands import CompletionRequested, PaymentRequested, VoidRequested
from schemas.records.orders import OperationRow, OrderRow
from schemas.records.payments import OperationView, PaymentView
from schemas.vocabulary import Initiator, OperationKind, OperationState, PaymentStatus
from tests.support.answer_checks import command_of, op_of
from tests.support.exhibits import Evidence, LedgerEntry, OrderKey, Sums, sums_of

_TRANSITIONS = {event_type(kind, step): step for kind in OperationKind for step in Transition}
APPROVAL = "approval"
"""The kind of token that no gateway is given: the payer agrees at its page."""

NEVER_TOLD_OF_CANCELS = frozenset({"adyen", "paypal"})
"""Gateways that take no money before the engine completes a payment: what waits for its payer there just ends."""

_SUCCESSES = frozenset({Transition.SUCCEEDED, Transition.RECORDED})


def one_effect_an_operation(evidence: Evidence) -> list[str]:
    """No operation had its effect twice, whatever keys and attempts it took."""
    effects: dict[str, list[str]] = defaultdict(list)
    for entry in evidence.counting():
        if entry.is_effect:
            effects[entry.op_id].append(entry.gateway_key)
    return [f"{op} had its effect {len(keys)} times: {keys}" for op, keys in effects.items() if len(keys) > 1]


def ledger_equals_rows(evidence: Evidence) -> list[str]:
    """The gateway's account and the engine's rows agree to the cent, in both directions.

    But for what a person has settled: whose word holds there, `desk_checks` says.
    """
    paid = _summed(_moves_of_ledger(_known_of_ledger(evidence)))
    settled = evidence.settled_at_desk()
    faults = []
    for order in paid.keys() | evidence.rows.keys():
        theirs = paid.get(order, Sums())
        row = evidence.rows.get(order)
        ours = Sums() if row is None else sums_of(row, without=settled)
        if ours != theirs:
            faults.append(f"{order}: the row says {ours}, the ledger {theirs}")
    return faults


def ledger_equals_events(evidence: Evidence) -> list[str]:
    """Every effect was published as a success exactly once by id, and no success without an effect.

    By its last event each operation counts for what the ledger makes of it, whatever became of it since; and what was
    dispatched is what its success says.
    """
    known = _known_of_ledger(evidence)
    effects = Counter(entry.op_id for entry in known if entry.is_effect)
    counted = _counted_of_ledger(known)
    published: dict[str, set[str]] = defaultdict(set)
    last: dict[str, tuple[int, int]] = {}
    let_go, operations, settled = evidence.let_go(), evidence.operations(), evidence.settled_at_desk()
    faults = []
    for envelope, event in evidence.events:
        if event.payment_id in let_go or event.operation.op_id in settled:
            continue
        if event.operation.kind is OperationKind.COMPLETE:
            continue  # the step takes nothing by itself: `payer_checks`
        op_id, said = _known_as(event.operation), event.operation
        if transition_of(envelope) in _SUCCESSES:
            published[op_id].add(envelope.id)
            if said.op_id in operations and said.amount_minor != operations[said.op_id][1].amount_minor:
                faults.append(f"{op_id}: its success says {said.amount_minor}, which is not what was dispatched")
        if event.sequence >= last.get(op_id, (0, 0))[0]:
            last[op_id] = event.sequence, said.counted_minor
    untold = _untold_cancels(evidence)
    return faults + [
        f"{op}: published {len(published[op])} times as a success that counts for {last.get(op, (0, 0))[1]} by the last"
        f" event, the ledger has {effects[op]} that count for {counted[op]}"
        for op in (published.keys() | effects.keys()) - untold
        if len(published[op]) != effects[op] or last.get(op, (0, 0))[1] != counted[op]
    ]


def _untold_cancels(evidence: Evidence) -> frozenset[str]:
    """Return what ended a payment that never held anything, at a gateway that is not told so.

    Only where that is true by the ledger: nothing was ever done for the payment. A void that was lost is none of these.
    """
    done = {entry.op_id for entry in evidence.ledger if entry.is_effect}
    never_held = {
        payment.payment_id
        for row in evidence.rows.values()
        for payment in row.payments
        if payment.gateway in NEVER_TOLD_OF_CANCELS and payment.op_id not in done
    }
    return frozenset(
        op_id
        for op_id, (_, operation) in evidence.operations().items()
        if operation.kind is OperationKind.VOID and operation.payment_id in never_held and op_id not in done
    )


def _counted_of_ledger(ledger: Iterable[LedgerEntry]) -> Counter[str]:
    """Return what each operation counts for by the gateway's own account."""
    counted: Counter[str] = Counter()
    for entry in ledger:
        if entry.kind != "expiry":
            counted[entry.op_id] += -entry.amount_minor if entry.kind == "reversal" else entry.amount_minor
    return counted


def _known_as(operation: OperationView) -> str:
    """Return the id that the ledger has for it: the gateway's own, of what was made at the gateway's desk."""
    at_desk = operation.initiator is Initiator.GATEWAY
    return operation.gateway_reference or operation.op_id if at_desk else operation.op_id


def effects_are_what_was_asked(evidence: Evidence) -> list[str]:
    """Each effect is of the amount, in the currency and by the token that the client named.

    Row, event and answer are all made of what the executor says that the gateway confirmed; so they would agree on a
    wrong amount. One minor unit may differ where the gateway said so (the Mock's scenario) and the payment is reviewed.
    A part may be approved, where the client allows it or the part is let go.
    """
    asked = {op_of(request): command_of(request) for request in evidence.history.requests if op_of(request) is not None}
    operations, reviewed = evidence.operations(), evidence.reviewed()
    faults = []
    for entry in evidence.ledger:
        command = asked.get(entry.op_id)
        if command is None or not entry.is_effect or isinstance(command, VoidRequested | CompletionRequested):
            continue  # that somebody asked for it at all, `order_kept` says
        wanted, has = command.amount_minor, entry.amount_minor
        found = operations.get(entry.op_id)
        part = isinstance(command, PaymentRequested) and command.allow_partial and _is_approved_part(found, wanted, has)
        if wanted not in {None, has} and not part and not _said_so(found, wanted, has, reviewed):
            faults.append(f"{entry.op_id} was asked for {wanted}, its effect is {has}")
        if isinstance(command, PaymentRequested) and entry.token not in (tokens := _tokens_of(command, entry.gateway)):
            faults.append(f"{entry.op_id} was asked for by {tokens}, its effect is by {entry.token}")
        if command.currency not in {None, entry.currency}:
            faults.append(f"{entry.op_id} was asked for in {command.currency}, its effect is in {entry.currency}")
    return faults


def _tokens_of(command: PaymentRequested, gateway: str) -> tuple[str | None, ...]:
    """Return what the payment may be opened with at this gateway."""
    if command.token is not None:
        return (command.token,)
    tokens = [token for token in command.tokens if token.gateway.partition("/")[0] == gateway]
    return tuple("" if token.kind == APPROVAL else token.value for token in tokens)


def _is_approved_part(found: tuple[OrderRow, OperationRow] | None, wanted: int | None, has: int) -> bool:
    """Say whether less was approved of a payment that allows it, and the engine heard exactly that."""
    return found is not None and has < (wanted or 0) and any(word.amount_minor == has for word in found[1].words)


def _said_so(
    found: tuple[OrderRow, OperationRow] | None, wanted: int | None, has: int, reviewed: AbstractSet[str]
) -> bool:
    if found is None or wanted is None:
        return False
    operation = found[1]
    if operation.error is not None and operation.error.code == Code.PARTIALLY_APPROVED:
        return has < wanted  # and it was let go
    heard = any(word.amount_minor == has for word in operation.words)
    return abs(wanted - has) == 1 and operation.payment_id in reviewed and heard


def contradictions_are_reviewed(evidence: Evidence) -> list[str]:
    """Where a gateway carries out what it had refused, as it was asked to, a person is asked, and told so by an event.

    Of any other refusal that a gateway contradicts `every_command_ended_once` says that it is a violation.
    """
    operations, reviewed = evidence.operations(), evidence.reviewed()
    told = {
        event.operation.op_id for envelope, event in evidence.events if transition_of(envelope) is Transition.REVIEWED
    }
    return [
        f"{op_id} was refused and carried out, and nobody is asked to look at it"
        for op_id in evidence.contradicted() | {op_id for op_id, _ in evidence.overtaken()}
        if op_id not in told or operations[op_id][1].payment_id not in reviewed
    ]


def voids_release(evidence: Evidence) -> list[str]:
    """A payment whose void succeeded holds nothing any more, by the last event that shows it."""
    shown = _last_shown(evidence)
    return [
        f"{operation.op_id} is a void that succeeded, and {payment.payment_id} still holds its money"
        for row, operation in evidence.operations().values()
        for payment in row.payments
        if operation.kind is OperationKind.VOID
        and operation.state is OperationState.SUCCEEDED
        and operation.payment_id == payment.payment_id
        and payment.payment_id in shown
        and shown[payment.payment_id].status in {PaymentStatus.AUTHORIZED, PaymentStatus.PARTIALLY_CAPTURED}
    ]


def events_equal_rows(evidence: Evidence) -> list[str]:
    """What the last event of each payment shows of its sums is what its row says."""
    last = _last_shown(evidence)
    payments: dict[str, Sums] = {
        each.payment_id: sums_of(row, each.payment_id) for row in evidence.rows.values() for each in row.payments
    }
    return [
        f"{payment_id}: the last event says {theirs}, the row {ours}"
        for payment_id in last.keys() | payments.keys()
        if (theirs := _sums_shown(last[payment_id]) if payment_id in last else None)
        != (ours := payments.get(payment_id))
    ]


def transition_of(envelope: Envelope) -> Transition:
    """Return what happened, by the event's type."""
    return _TRANSITIONS[envelope.type]


def _last_shown(evidence: Evidence) -> dict[str, PaymentView]:
    """Return each payment as the event of the highest sequence shows it."""
    last: dict[str, tuple[int, PaymentView]] = {}
    for _, event in evidence.events:
        if event.payment is not None and event.sequence >= last.get(event.payment.payment_id, (0, event.payment))[0]:
            last[event.payment.payment_id] = (event.sequence, event.payment)
    return {payment_id: payment for payment_id, (_, payment) in last.items()}


def _sums_shown(payment: PaymentView) -> Sums:
    return Sums(authorized=payment.authorized_minor, captured=payment.captured_minor, refunded=payment.refunded_minor)


def _known_of_ledger(evidence: Evidence) -> list[LedgerEntry]:
    """Return the ledger without operations given to a person: the engine says of them that it does not know.

    And without what was approved in part and let go again: to the merchant that is a decline, and no money. And without
    what a person has settled, or has to.
    """
    let_go = evidence.let_go()
    unknown = evidence.settled_at_desk() | evidence.contradicted()
    unknown |= {
        each.op_id
        for _, each in evidence.operations().values()
        if each.state is OperationState.MANUAL_REVIEW or each.payment_id in let_go
    }
    return [entry for entry in evidence.counting() if entry.op_id not in unknown]


def _moves_of_ledger(ledger: Iterable[LedgerEntry]) -> Iterator[tuple[OrderKey, str, int]]:
    for entry in ledger:
        sign = -1 if entry.kind == "reversal" else 1
        yield (entry.origin_id, entry.order_id), entry.reversed_kind or entry.kind, sign * entry.amount_minor


def _summed(moves: Iterable[tuple[OrderKey, str, int]]) -> dict[OrderKey, Sums]:
    totals: dict[OrderKey, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for order, kind, amount_minor in moves:
        total = totals[order]
        if kind in {"authorize", "sale"}:
            total["authorized"] += amount_minor
        if kind in {"capture", "sale"}:
            total["captured"] += amount_minor
        if kind == "refund":
            total["refunded"] += amount_minor
    return {
        order: Sums(authorized=each["authorized"], captured=each["captured"], refunded=each["refunded"])
        for order, each in totals.items()
    }
