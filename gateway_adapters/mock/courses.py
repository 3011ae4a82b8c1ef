"""What a call may meet at the Mock, as data: every scenario, what comes later of it, and how notices come. Pure.

Asked for by rule or by token (see `scenarios`), carried out by `bank` (at the call), `lifecycle` (later) and `server`
(on the socket). Each is what a real gateway is known to do; the Mock must be no kinder than they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gateway_adapters.mock.wire import Status
from schemas.vocabulary import CallKind


class Scenario(StrEnum):
    """Everything that can be asked for; `…_before` and `…_after` say on which side of the execution it happens."""

    TIMEOUT_BEFORE = "timeout_before"  # never executed, never answered
    TIMEOUT_AFTER = "timeout_after"  # executed, never answered
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    HTML_502_BEFORE = "html_502_before"  # a proxy's page
    HTML_502_AFTER = "html_502_after"
    SERVER_ERROR_AFTER = "server_error_after"  # a JSON 500
    STORED_500_BEFORE = "stored_500_before"  # not executed; the 500 is kept under the key, and given again
    STORED_500_AFTER = "stored_500_after"  # executed; the 500 is kept under the key, and given again
    CUT_AFTER = "cut_after"  # 200 and half a body
    RATE_LIMITED = "rate_limited"  # 429 with Retry-After
    UNAUTHORIZED = "unauthorized"  # 401
    NOT_FOUND_YET = "not_found_yet"  # an inquiry that finds nothing, and says that it proves nothing
    SLOW = "slow"  # as usual, `delay_ms` later
    AMOUNT_MISMATCH = "amount_mismatch"  # one minor unit less than asked (one more, when asked for one)
    PARTIAL_APPROVAL = "partial_approval"  # the issuer approves a part of what was asked for
    UNKNOWN_STATUS = "unknown_status"  # executed, and answered with a status nobody knows
    PENDING_THEN_SUCCEEDED = "pending_then_succeeded"
    PENDING_THEN_FAILED = "pending_then_failed"
    REFUSED_THEN_SUCCEEDED = "refused_then_succeeded"  # declined; the gateway contradicts itself
    ACTION_EXPIRED = "action_expired"  # the payer must act, and does not in time
    COMPLETION_REQUIRED = "completion_required"  # the payer must act, and then the engine complete the payment
    LATE_FAILURE = "late_failure"  # succeeded, then reversed
    PARTIAL_REVERSAL = "partial_reversal"  # succeeded, then a part of it is taken back
    TWO_REVERSALS = "two_reversals"  # a part, and later another part
    RECAPTURED = "recaptured"  # reversed, and later there again (Adyen: 'Transaction Recaptured')
    HOLD_EXPIRED = "hold_expired"  # an authorization runs out
    DESK_REFUND = "desk_refund"  # refunded by a person at the gateway's own desk: all that is left
    PARTIAL_DESK_REFUND = "partial_desk_refund"
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_WON = "dispute_won"  # opened, then won; nothing was taken meanwhile
    DISPUTE_LOST = "dispute_lost"  # opened, then lost: taken then
    PARTIAL_DISPUTE_LOST = "partial_dispute_lost"
    CHARGEBACK_WON = "chargeback_won"  # opened, taken, won: given back
    CHARGEBACK_LOST = "chargeback_lost"  # taken, then told as a dispute, then lost: taken once
    PARTIAL_CHARGEBACK_WON = "partial_chargeback_won"
    PARTIAL_CHARGEBACK_LOST = "partial_chargeback_lost"
    DUPLICATE_WEBHOOKS = "duplicate_webhooks"  # pending, then succeeded, said twice
    OUT_OF_ORDER_WEBHOOKS = "out_of_order_webhooks"  # pending, then succeeded, and the older notice comes last
    EARLY_WEBHOOK = "early_webhook"  # the notice comes before the answer of the call
    WEBHOOKS_BY_REFERENCE = "webhooks_by_reference"  # pending, then succeeded, told without our metadata
    BATCHED_WEBHOOKS = "batched_webhooks"  # …, told in one body with what concerns others, or nobody
    STRANGERS_WEBHOOK = "strangers_webhook"  # …, and a notice about a payment that another system made


class Manner(StrEnum):
    """How notices about an operation come. Several go together."""

    DUPLICATE = "duplicate"  # each twice
    OUT_OF_ORDER = "out_of_order"  # the newest first, the oldest last
    EARLY = "early"  # the first before the answer of the call
    BY_REFERENCE = "by_reference"  # without the engine's identifiers
    BY_OUR_REFERENCE = "by_our_reference"  # of those the operation's id alone, as our reference at the gateway
    BATCHED = "batched"  # in one body with others, with other people's, and with items that say nothing to us
    STRANGER = "stranger"  # with one about a payment that this engine never made, without any identifier


class Word(StrEnum):
    """What can happen to an operation after its call."""

    SUCCEEDED = "succeeded"  # of one that waits, or was declined
    FAILED = "failed"  # of one that waits
    ACTION_EXPIRED = "action_expired"  # of one that waits for the payer
    REVERSED = "reversed"  # some or all of what it counts for is taken back, under a case
    RESTORED = "restored"  # all that was taken back is there again
    EXPIRED = "expired"  # what is left of a hold ran out
    REFUNDED = "refunded"  # by a person at the gateway's desk: an operation of its own
    DISPUTED = "disputed"  # a case is opened; no money moves
    DISPUTE_WON = "dispute_won"  # and what was taken under the case is given back
    DISPUTE_LOST = "dispute_lost"  # and what was not taken under the case yet is taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that comes later. Steps with the same `case` number speak of one case."""

    word: Word
    percent: int | None = None  # of the operation's amount; None: all that there is
    case: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What becomes of a call: how it is answered, and what comes later, each step a delay after the one before."""

    first: Status = Status.SUCCEEDED
    steps: tuple[Step, ...] = ()
    completed_by_engine: bool = False  # of one that waits for the payer: nothing follows from the payer's act alone
    manners: frozenset[Manner] = frozenset()
    kinds: frozenset[CallKind] = frozenset(CallKind)  # another kind of call goes as usual


PART_PERCENT: Final = 30
"""How much 'a part' is, unless a rule says how much."""

_OPENING: Final = frozenset({CallKind.AUTHORIZE, CallKind.SALE})
_TAKING: Final = frozenset({CallKind.SALE, CallKind.CAPTURE})
_THEN_SUCCEEDED: Final = (Step(word=Word.SUCCEEDED),)


def _told(manner: Manner) -> Course:
    return Course(first=Status.PENDING, steps=_THEN_SUCCEEDED, manners=frozenset({manner}))


def _taken(*steps: Step) -> Course:
    return Course(steps=steps, kinds=_TAKING)


def _in_case(*words: Word, percent: int | None = None) -> Course:
    return _taken(*(Step(word=word, percent=percent, case=1) for word in words))


USUAL: Final = Course()

COURSES: Final[Mapping[Scenario, Course]] = MappingProxyType(
    {
        Scenario.PENDING_THEN_SUCCEEDED: Course(first=Status.PENDING, steps=_THEN_SUCCEEDED),
        Scenario.PENDING_THEN_FAILED: Course(first=Status.PENDING, steps=(Step(word=Word.FAILED),)),
        Scenario.REFUSED_THEN_SUCCEEDED: Course(first=Status.DECLINED, steps=_THEN_SUCCEEDED),
        Scenario.ACTION_EXPIRED: Course(
            first=Status.REQUIRES_ACTION, steps=(Step(word=Word.ACTION_EXPIRED),), kinds=_OPENING
        ),
        Scenario.COMPLETION_REQUIRED: Course(first=Status.REQUIRES_ACTION, completed_by_engine=True, kinds=_OPENING),
        Scenario.LATE_FAILURE: Course(steps=(Step(word=Word.REVERSED),)),
        Scenario.PARTIAL_REVERSAL: _taken(Step(word=Word.REVERSED, percent=PART_PERCENT)),
        Scenario.TWO_REVERSALS: _taken(
            Step(word=Word.REVERSED, percent=PART_PERCENT, case=1), Step(word=Word.REVERSED, percent=20, case=2)
        ),
        Scenario.RECAPTURED: _taken(Step(word=Word.REVERSED), Step(word=Word.RESTORED)),
        Scenario.HOLD_EXPIRED: Course(steps=(Step(word=Word.EXPIRED),), kinds=frozenset({CallKind.AUTHORIZE})),
        Scenario.DESK_REFUND: _taken(Step(word=Word.REFUNDED)),
        Scenario.PARTIAL_DESK_REFUND: _taken(Step(word=Word.REFUNDED, percent=PART_PERCENT)),
        Scenario.DISPUTE_OPENED: _in_case(Word.DISPUTED),
        Scenario.DISPUTE_WON: _in_case(Word.DISPUTED, Word.DISPUTE_WON),
        Scenario.DISPUTE_LOST: _in_case(Word.DISPUTED, Word.DISPUTE_LOST),
        Scenario.PARTIAL_DISPUTE_LOST: _in_case(Word.DISPUTED, Word.DISPUTE_LOST, percent=PART_PERCENT),
        Scenario.CHARGEBACK_WON: _in_case(Word.DISPUTED, Word.REVERSED, Word.DISPUTE_WON),
        Scenario.CHARGEBACK_LOST: _in_case(Word.REVERSED, Word.DISPUTED, Word.DISPUTE_LOST),
        Scenario.PARTIAL_CHARGEBACK_LOST: _in_case(
            Word.DISPUTED, Word.REVERSED, Word.DISPUTE_LOST, percent=PART_PERCENT
        ),
        Scenario.PARTIAL_CHARGEBACK_WON: _in_case(Word.DISPUTED, Word.REVERSED, Word.DISPUTE_WON, percent=PART_PERCENT),
        Scenario.DUPLICATE_WEBHOOKS: _told(Manner.DUPLICATE),
        Scenario.OUT_OF_ORDER_WEBHOOKS: _told(Manner.OUT_OF_ORDER),
        Scenario.EARLY_WEBHOOK: Course(manners=frozenset({Manner.EARLY})),
        Scenario.WEBHOOKS_BY_REFERENCE: _told(Manner.BY_REFERENCE),
        Scenario.BATCHED_WEBHOOKS: _told(Manner.BATCHED),
        Scenario.STRANGERS_WEBHOOK: _told(Manner.STRANGER),
    }
)
"""What each scenario makes of a call; one that is not named here is answered otherwise than usual, and no more."""


def course_of(scenario: Scenario | None, kind: CallKind) -> Course:
    """Return what becomes of a call of this kind that meets this scenario; None: none."""
    course = USUAL if scenario is None else COURSES.get(scenario, USUAL)
    return course if kind in course.kinds else USUAL
