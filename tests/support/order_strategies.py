"""Random lives of an order, for Hypothesis: what a merchant may ask, what a gateway may say, and in which order."""

from dataclasses import dataclass, replace
from typing import Final

from hypothesis import strategies as st

from schemas.decisions_validation import WITH_AMOUNT
from schemas.identifiers import PaymentId
from schemas.records.commands import Command
from schemas.vocabulary import Outcome, RetryAdvice, Verdict
from tests.support.order_desk import (
    ACTION,
    DECLINE,
    NOT_FOUND,
    PENDING,
    SOFT_DECLINE,
    SUCCESS,
    UNKNOWN,
    Said,
    authorize,
    capture,
    error,
    refund,
    refusal,
    sale,
    void,
)

AMOUNTS: Final = st.one_of(st.none(), st.integers(1, 12_000))
KEYS: Final = st.integers(0, 12).map(lambda number: f"k{number}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A command that can name its payment only once it is there."""

    kind: str
    key: str
    amount: int | None = None
    final: bool = False

    def command(self, payment: PaymentId) -> Command:
        match self.kind:
            case "authorize":
                return authorize(10_000, key=self.key)
            case "sale":
                return sale(10_000, key=self.key)
            case "capture":
                return capture(payment, self.amount, key=self.key, final=self.final)
            case "void":
                return void(payment, key=self.key)
            case _:
                return refund(payment, self.amount, key=self.key)


WISHES: Final = st.builds(
    Wish,
    kind=st.sampled_from(["authorize", "sale", "capture", "capture", "refund", "refund", "void"]),
    key=KEYS,
    amount=AMOUNTS,
    final=st.booleans(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a person decides, right or wrong; under a name that may have been used before."""

    name: str
    verdict: Verdict
    amount: int | None


def _judgement(number: int, verdict: Verdict, amount: int | None) -> Judgement:
    return Judgement(name=f"d{number}", verdict=verdict, amount=amount if verdict in WITH_AMOUNT else None)


JUDGEMENTS: Final = st.builds(_judgement, st.integers(0, 20), st.sampled_from(Verdict), AMOUNTS)
CLOCKS: Final = st.sampled_from([None, -1_000_000, 0, 1, 1_000_000])
"""How far the time that a gateway names is from the log's; None: it names none."""

SETTLED_ANSWERS: Final = st.sampled_from(
    [
        SUCCESS,
        SUCCESS,
        DECLINE,
        SOFT_DECLINE,
        replace(SOFT_DECLINE, sole=False),
        refusal(RetryAdvice.OTHER_GATEWAY),
        refusal(RetryAdvice.NEVER),
        refusal(RetryAdvice.NEW_KEY_LATER, retry_after_ms=1_000),
    ]
)
"""What leaves nothing open."""

MISMATCHES: Final = st.integers(1, 15_000).map(lambda amount: Said(confirmed_minor=amount))
ANSWERS: Final = st.one_of(SETTLED_ANSWERS, st.sampled_from([PENDING, ACTION, UNKNOWN]), MISMATCHES)
THROTTLED: Final = Said(
    outcome=Outcome.UNKNOWN, error=error(RetryAdvice.NEW_KEY_LATER, retry_after_ms=1_000), reference=None
)
LOOKS: Final = st.sampled_from([SUCCESS, DECLINE, SOFT_DECLINE, PENDING, UNKNOWN, NOT_FOUND, THROTTLED])
