"""What a gateway says about an operation, in one shape: the result of a call, or a notice that came by itself.

Made by `order` and judged by `outcomes`. A notice without our operation id is matched by the gateway's own references.
"""

from dataclasses import dataclass

from gateway_adapters.contract import GatewayNotice
from schemas.identifiers import AccountName, GatewayName
from schemas.quick_init import quick_init
from schemas.records.gateway import GatewayCallCompleted, OperationError
from schemas.records.orders import OperationRow
from schemas.vocabulary import CallKind, Outcome
from streams.domain.sums import OPEN
from streams.domain.turn import Turn


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One statement. `call_number` and `attempt` are None of a notice, which answers no call."""

    outcome: Outcome
    gateway: GatewayName
    account: AccountName
    attempt: int | None
    call_number: int | None
    inquiry: bool
    gateway_reference: str | None
    confirmed_amount_minor: int | None
    confirmed_currency: str | None
    action_url: str | None
    error: OperationError | None

    def answers(self, operation: OperationRow) -> bool:
        """Return whether this is the word on the call that the operation waits for."""
        return operation.call_kind is not None and self.call_number == operation.call_number

    def is_ahead_of(self, operation: OperationRow) -> bool:
        """Return whether this answers a later attempt than the operation knows of."""
        return self.attempt is not None and self.attempt > operation.attempt

    def concerns(self, operation: OperationRow) -> bool:
        """Return whether this is about the operation's last attempt, and not about one that was given up.

        A notice names no attempt, and an earlier one may have been made at the same gateway: its object has another
        reference. While the last one's is not known, nobody can tell them apart, and the notice counts for the last.
        """
        if (self.gateway, self.account) != (operation.gateway, operation.account):
            return False
        return self.attempt == operation.attempt or (self.attempt is None and not self.names_another(operation))

    def names_another(self, operation: OperationRow) -> bool:
        """Return whether this is about another object of the gateway than the one known to be the operation's."""
        known, named = operation.gateway_reference, self.gateway_reference
        return known is not None and named is not None and known != named


def of_result(result: GatewayCallCompleted) -> Evidence:
    """Return what the call's result says."""
    return Evidence(
        outcome=result.outcome,
        gateway=result.gateway,
        account=result.account,
        attempt=result.attempt,
        call_number=result.call_number,
        inquiry=result.kind is CallKind.INQUIRE,
        gateway_reference=result.gateway_reference,
        confirmed_amount_minor=result.confirmed_amount_minor,
        confirmed_currency=result.confirmed_currency,
        action_url=result.action_url,
        error=result.error,
    )


def of_notice(notice: GatewayNotice, account: AccountName) -> Evidence:
    """Return what the notice says."""
    return Evidence(
        outcome=notice.outcome,
        gateway=notice.gateway,
        account=account,
        attempt=None,
        call_number=None,
        inquiry=False,
        gateway_reference=notice.gateway_reference,
        confirmed_amount_minor=notice.confirmed_amount_minor,
        confirmed_currency=notice.confirmed_currency,
        action_url=None,
        error=notice.error,
    )


def noticed(turn: Turn, notice: GatewayNotice, account: AccountName) -> OperationRow | None:
    """Return the operation that the notice, which came to this account, is about.

    By our own id when the gateway gave it back; else by the gateway's id of the operation; else, on the payment that it
    names, the only open operation of that kind whose id at the gateway we do not know yet. None when that leaves any
    doubt: a merchant may refund at the gateway's own desk, and a notice without any id would, when it comes twice,
    speak for the next operation.
    """
    if notice.op_id is not None:
        return turn.operations.get(notice.op_id)
    if notice.gateway_reference is None:
        return None
    ours = [each for each in turn.operations.values() if (each.gateway, each.account) == (notice.gateway, account)]
    for each in ours:
        if each.gateway_reference == notice.gateway_reference and notice.kind in {None, each.kind.value}:
            return each
    candidates = [each for each in ours if each.state in OPEN and _is_on(turn, each, notice)]
    return candidates[0] if len(candidates) == 1 else None


def _is_on(turn: Turn, operation: OperationRow, notice: GatewayNotice) -> bool:
    if notice.payment_reference is None or notice.kind is None or notice.kind.value != operation.kind.value:
        return False
    named = turn.payment_of(operation).gateway_reference == notice.payment_reference
    other_amount = notice.confirmed_amount_minor not in {None, operation.amount_minor}
    return named and operation.gateway_reference is None and not other_amount
