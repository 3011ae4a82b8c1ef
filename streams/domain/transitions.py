"""The states of an operation and how it moves between them: the table, as data.

`settlement` moves an operation only along it. The page docs/operation-states.md is made from it, and a property test
holds random lives to it. A move is named by what the world is told.
"""

from dataclasses import dataclass
from typing import Final

from schemas.event_types import Transition
from schemas.vocabulary import OperationState
from streams.domain.errors import InvariantViolatedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One way from some states to another, and what it means."""

    origins: tuple[OperationState, ...]
    to: OperationState
    told: Transition | None  # None: nobody is told
    when: str
    decided: bool = False  # only of an operation that a person has judged


_OPEN = (
    OperationState.DISPATCHED,
    OperationState.PENDING,
    OperationState.REQUIRES_ACTION,
    OperationState.UNKNOWN,
    OperationState.MANUAL_REVIEW,
)

TABLE: Final = (
    Move(
        origins=(OperationState.QUEUED,),
        to=OperationState.CLAIMING,
        told=None,
        when="its turn has come: its idempotency key is claimed",
    ),
    Move(
        origins=(OperationState.QUEUED, OperationState.CLAIMING),
        to=OperationState.CONFLICT,
        told=Transition.REJECTED,
        when="its idempotency key stands for another operation",
    ),
    Move(
        origins=(OperationState.CLAIMING, OperationState.DISPATCHED),
        to=OperationState.REJECTED,
        told=Transition.REJECTED,
        when="the order's own rules refuse it, at once or after an inquiry about one in doubt; nothing was sent",
    ),
    Move(
        origins=(OperationState.CLAIMING, OperationState.DISPATCHED),
        to=OperationState.DISPATCHED,
        told=Transition.ACCEPTED,
        when="the intent is durable, and its call is owed",
    ),
    Move(
        origins=_OPEN,
        to=OperationState.SUCCEEDED,
        told=Transition.SUCCEEDED,
        when="the gateway says that it carried it out",
    ),
    Move(
        origins=_OPEN,
        to=OperationState.DECLINED,
        told=Transition.DECLINED,
        when="the gateway refuses it, or approves a part of it, which is let go",
    ),
    Move(
        origins=_OPEN,
        to=OperationState.NOT_EXECUTED,
        told=Transition.FAILED,
        when="there is positive evidence that nothing happened, and no attempt is left; or its payer did not act",
    ),
    Move(
        origins=_OPEN[:4],
        to=OperationState.PENDING,
        told=Transition.PENDED,
        when="the gateway has taken it, and says the last word later",
    ),
    Move(
        origins=_OPEN[:4],
        to=OperationState.REQUIRES_ACTION,
        told=Transition.ACTION_REQUIRED,
        when="the payer has to act",
    ),
    Move(
        origins=(OperationState.DISPATCHED,),
        to=OperationState.UNKNOWN,
        told=Transition.DOUBTED,
        when="nobody knows whether the call had its effect",
    ),
    Move(
        origins=_OPEN[:4],
        to=OperationState.MANUAL_REVIEW,
        told=Transition.REVIEWED,
        when="it is still in doubt after the last look, or a gateway contradicts itself",
    ),
    Move(
        origins=(OperationState.NOT_EXECUTED,),
        to=OperationState.SUCCEEDED,
        told=Transition.SUCCEEDED,
        when="a person had settled it as not executed, and the gateway says later that it carried it out",
        decided=True,
    ),
    Move(
        origins=(OperationState.SUCCEEDED,),
        to=OperationState.REVERSED,
        told=Transition.REVERSED,
        when="all that it counts for is taken back; a lost dispute is told as `dispute_lost`",
    ),
    Move(
        origins=(OperationState.REVERSED,),
        to=OperationState.SUCCEEDED,
        told=Transition.RESTORED,
        when="the gateway carries it out again, or a person says so of what may have been taken away twice; or a "
        "dispute is won, which is told as `dispute_won`",
    ),
)
"""Every move there is. A part that is taken back or restored leaves the operation where it is: SUCCEEDED."""

_ALLOWED: Final = frozenset((origin, move.to) for move in TABLE for origin in move.origins if not move.decided)
_ALLOWED_ONCE_DECIDED: Final = frozenset((origin, move.to) for move in TABLE for origin in move.origins)


def require_move(before: OperationState, after: OperationState, *, decided: bool = False) -> None:
    """Return when an operation may move so, or stays where it is. `decided`: a person has judged it.

    Raises: InvariantViolatedError.
    """
    if before is not after and (before, after) not in (_ALLOWED_ONCE_DECIDED if decided else _ALLOWED):
        raise InvariantViolatedError(f"no operation moves from {before} to {after}")
