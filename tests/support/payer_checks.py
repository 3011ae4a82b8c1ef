"""Whether a payment came to what its payer said, and a part that was approved to what its merchant allows.

Checks of `checker`; each returns sentences, one a violation.
"""

from collections import defaultdict

from gateway_adapters.errors import Code
from schemas.event_types import Transition
from schemas.records.orders import OperationRow, OrderRow
from schemas.vocabulary import Initiator, OperationKind, OperationState, PaymentStatus
from tests.support.answer_checks import op_of
from tests.support.exhibits import Evidence, LedgerEntry
from tests.support.money_checks import transition_of

_CARRIED_OUT = frozenset({OperationState.SUCCEEDED, OperationState.REVERSED})
_TAKEN = frozenset(
    {
        PaymentStatus.AUTHORIZED.value,
        PaymentStatus.PARTIALLY_CAPTURED.value,
        PaymentStatus.CAPTURED.value,
    }
)


def nobody_pays_unasked(evidence: Evidence) -> list[str]:
    """A payment that waited for its payer had its effect only where the payer agreed."""
    agreed = {act.payment_id for act in evidence.history.acts if act.agreed}
    waited = {
        event.operation.op_id: event.payment_id
        for envelope, event in evidence.events
        if transition_of(envelope) is Transition.ACTION_REQUIRED and event.operation.kind is not OperationKind.COMPLETE
    }
    effects = {entry.op_id for entry in evidence.ledger if entry.is_effect}
    return [
        f"{op_id} had its effect, and the payer of {payment_id} never agreed"
        for op_id, payment_id in waited.items()
        if op_id in effects and payment_id not in agreed
    ]


def payers_know_where_to_act(evidence: Evidence) -> list[str]:
    """Every answer that says that the payer has to act says where."""
    return [
        f"request {request.number} on {request.order_id} waits for its payer, and no answer says where that acts"
        for request in evidence.history.requests
        for answer in request.answers
        if answer.waits_for_payer and not answer.body.get("actionUrl")
    ]


def cancellations_end_the_wait(evidence: Evidence) -> list[str]:
    """Who is told that a void or a cancellation succeeded is shown a payment that waits for its payer no more."""
    return [
        f"request {request.number} on {request.order_id}: the payment is cancelled, and told to wait for its payer"
        for request in evidence.history.requests
        if request.path.partition("?")[0].endswith(("/void", "/cancel"))
        for answer in request.answers
        if answer.status == 200 and answer.body.get("status") == PaymentStatus.REQUIRES_ACTION
    ]


def completions_take_nothing(evidence: Evidence) -> list[str]:
    """A completion has no effect of its own; what it comes to is its payment's, and its answers say so."""
    operations = evidence.operations()
    steps = {op_id for op_id, (_, each) in operations.items() if each.kind is OperationKind.COMPLETE}
    faults = [
        f"{entry.op_id} is a completion, and the ledger has a {entry.kind} of it"
        for entry in evidence.ledger
        if entry.op_id in steps
    ]
    for request in evidence.history.requests:
        if op_of(request) not in steps:
            continue
        row, step = operations[str(op_of(request))]
        opening = _opening_of(row, step)
        for answer in request.answers:
            taken = answer.status == 200 and answer.body.get("status") in _TAKEN
            if taken and (opening is None or opening.state not in _CARRIED_OUT):
                state = "in no row" if opening is None else opening.state
                told = answer.body["status"]
                faults.append(f"{step.op_id}: its payment was told to be {told}, and what opened it is {state}")
    return faults


def _opening_of(row: OrderRow, operation: OperationRow) -> OperationRow | None:
    opened_by = {payment.payment_id: payment.op_id for payment in row.payments}.get(operation.payment_id)
    return next((each for each in row.operations if each.op_id == opened_by), None)


def unwanted_parts_are_let_go(evidence: Evidence) -> list[str]:
    """A part that was approved and not wanted is given back: once, all of it, and nothing else is done with it."""
    by_op: dict[str, list[LedgerEntry]] = defaultdict(list)
    for entry in evidence.ledger:
        by_op[entry.op_id].append(entry)
    reviewed = evidence.reviewed()
    faults: list[str] = []
    for row in evidence.rows.values():
        for opening in row.operations:
            unwanted = opening.error is not None and opening.error.code == Code.PARTIALLY_APPROVED
            if unwanted and opening.payment_id not in reviewed:
                faults += _kept(row, opening, by_op)
    return faults


def _kept(row: OrderRow, opening: OperationRow, ledger: dict[str, list[LedgerEntry]]) -> list[str]:
    theirs = [each for each in row.operations if each.payment_id == opening.payment_id]
    own = [each for each in theirs if each.initiator is Initiator.ENGINE]
    others = [each.op_id for each in theirs if each not in own and each is not opening and ledger[each.op_id]]
    faults = [f"{other} had its effect on {opening.payment_id}, which was let go" for other in others]
    approved = [entry.amount_minor for entry in ledger[opening.op_id] if entry.is_effect]
    taken_back = sum(entry.amount_minor for entry in ledger[opening.op_id] if entry.kind in {"reversal", "expiry"})
    given_back = [entry.amount_minor for each in own for entry in ledger[each.op_id] if entry.is_effect]
    if sum(approved) > taken_back and given_back != approved:
        faults.append(f"{opening.op_id} was approved for {approved} and unwanted, {given_back} was let go again")
    return faults
