"""What a token makes of a payment: Stripe's test tokens, and our own for what no sandbox has. Pure.

Stripe's (https://docs.stripe.com/testing): `tok_visa`, `tok_chargeDeclined…`, `pm_card_authenticationRequired`,
`tok_refundFail` and the same under `tok_visa_`, `pm_card_` and `pm_card_visa_`.

Ours: `tok_mock_[<kind>_]<scenario>[_x<times>|_always]`. Without a kind it strikes the call that opens the payment;
with `capture`, `void`, `refund` or `inquire` it strikes that. It strikes the first `times` calls of that kind of an
order (1 unless told), so that a retry with a new key gets through:

* `tok_mock_timeout_after`           the sale is executed, the answer never comes
* `tok_mock_rate_limited_x2`         two 429, then success
* `tok_mock_capture_late_failure`    the capture succeeds and is reversed
* `tok_mock_html_502_before_always`  no attempt ever gets through
* `tok_mock_dispute_lost+by_reference+duplicate`  disputed and lost; each notice comes twice, and names no order

What stands after a plus is how the notices come (`courses.Manner`).

`tok_mock_declined_<code>` is declined with that code, known or not. Any other token succeeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway_adapters.mock.courses import Manner, Scenario
from schemas.vocabulary import CallKind

MAX_TIMES: Final = 1000
_STRIPE_PREFIXES: Final = ("pm_card_visa_", "tok_visa_", "pm_card_", "tok_")
_OUR_PREFIX: Final = "tok_mock_"
_DECLINED_PREFIX: Final = "declined_"
_SCENARIOS: Final = frozenset(scenario.value for scenario in Scenario)
_MANNERS: Final = frozenset(manner.value for manner in Manner)
_LATER_KINDS: Final = (CallKind.CAPTURE, CallKind.VOID, CallKind.REFUND, CallKind.INQUIRE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPlan:
    """What a token asks for."""

    decline: str | None = None  # the decline code of the call that opens the payment
    action_required: bool = False
    scenario: Scenario | None = None
    manners: frozenset[Manner] = frozenset()  # how notices about it come, beside what the scenario says itself
    kind: CallKind | None = None  # the call that the scenario strikes; None: the one that opens the payment
    times: int | None = 1  # None: always


PLAIN: Final = TokenPlan()

_STRIPE: Final[Mapping[str, TokenPlan]] = MappingProxyType(
    {
        "chargeDeclined": TokenPlan(decline="generic_decline"),
        "chargeDeclinedInsufficientFunds": TokenPlan(decline="insufficient_funds"),
        "chargeDeclinedExpiredCard": TokenPlan(decline="expired_card"),
        "chargeDeclinedIncorrectCvc": TokenPlan(decline="incorrect_cvc"),
        "chargeDeclinedProcessingError": TokenPlan(decline="processing_error"),
        "chargeDeclinedFraudulent": TokenPlan(decline="fraudulent"),
        "chargeDeclinedLostCard": TokenPlan(decline="lost_card"),
        "chargeDeclinedStolenCard": TokenPlan(decline="stolen_card"),
        "chargeDeclinedVelocityLimitExceeded": TokenPlan(decline="card_velocity_exceeded"),
        "authenticationRequired": TokenPlan(action_required=True),
        # "The charge succeeds. If you initiate a refund, its status begins as succeeded. Some time later, its status
        # transitions to failed." (the same page)
        "refundFail": TokenPlan(scenario=Scenario.LATE_FAILURE, kind=CallKind.REFUND, times=None),
        # "… its status begins as pending. Some time later, its status transitions to succeeded."
        "pendingRefund": TokenPlan(scenario=Scenario.PENDING_THEN_SUCCEEDED, kind=CallKind.REFUND, times=None),
    }
)


def plan_of(token: str) -> TokenPlan:
    """Return what this token asks for; of one that nobody knows: success."""
    if token.startswith(_OUR_PREFIX):
        return _ours(token.removeprefix(_OUR_PREFIX))
    for prefix in _STRIPE_PREFIXES:
        if token.startswith(prefix):
            return _STRIPE.get(token.removeprefix(prefix), PLAIN)
    return PLAIN


def _ours(rest: str) -> TokenPlan:
    if rest.startswith(_DECLINED_PREFIX) and rest != _DECLINED_PREFIX:
        return TokenPlan(decline=rest.removeprefix(_DECLINED_PREFIX))
    times: int | None = 1
    head, _, tail = rest.rpartition("_")
    if tail == "always":
        rest, times = head, None
    elif tail.startswith("x") and tail[1:].isascii() and tail[1:].isdigit():
        rest, times = head, min(int(tail[1:]), MAX_TIMES)
    kind = next((kind for kind in _LATER_KINDS if rest.startswith(f"{kind.value}_")), None)
    name, *manners = (rest if kind is None else rest.removeprefix(f"{kind.value}_")).split("+")
    if name not in _SCENARIOS or not _MANNERS.issuperset(manners):
        return PLAIN
    return TokenPlan(
        scenario=Scenario(name), manners=frozenset(Manner(each) for each in manners), kind=kind, times=times
    )
