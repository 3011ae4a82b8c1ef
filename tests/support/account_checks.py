"""Whether each operation had its effect at a gateway and account that its plan names, and at no other.

A check of `checker`; it returns sentences, one a violation.
"""

from schemas.identifiers import gateway_route
from schemas.vocabulary import OperationKind, OperationState
from tests.support.exhibits import Evidence

_OPENING = frozenset({OperationKind.AUTHORIZE, OperationKind.SALE})
_CARRIED_OUT = frozenset({OperationState.SUCCEEDED, OperationState.REVERSED})


def effects_are_at_their_accounts(evidence: Evidence) -> list[str]:
    """What opened a payment is where its plan allows, what follows is where the payment is, and the rows say the same.

    The plan is the one that the operation's claim pinned. What a gateway's own desk did is in its payment's account.
    """
    operations = evidence.operations()
    opened_by = {payment.payment_id: payment.op_id for row in evidence.rows.values() for payment in row.payments}
    opened_at = {entry.op_id: entry.route for entry in evidence.counting() if entry.kind in {"authorize", "sale"}}
    overtaken = evidence.overtaken()
    faults = []
    for entry in evidence.ledger:
        if entry.op_id not in operations:
            continue  # that an effect belongs to nobody, `order_kept` says
        operation = operations[entry.op_id][1]
        opening = opened_by.get(operation.payment_id)
        if operation.kind in _OPENING:
            allowed = evidence.plans.get(entry.op_id, frozenset())
        else:
            there = opened_at.get(opening or "")
            allowed = evidence.plans.get(opening or "", frozenset()) if there is None else frozenset({there})
        said = None if operation.gateway is None else gateway_route(operation.gateway, operation.account)
        if entry.route not in allowed:
            faults.append(f"{entry.op_id} had its {entry.kind} at {entry.route}, where only {sorted(allowed)} may be")
        elif (
            entry.is_effect
            and operation.state in _CARRIED_OUT
            and said != entry.route
            and (entry.op_id, entry.route) not in overtaken
        ):
            faults.append(f"{entry.op_id} had its {entry.kind} at {entry.route}, the row says {said}")
    return faults
