"""What becomes of a sale, a capture or a refund at its gateway once it is there, and what the gateway says of it.

`BankObject` moves its money by plain addition, as a gateway does, and returns the words that are owed. Used by
`order_lives` and by the crash model's gateways. Nothing of `streams.domain` is asked what is right.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from schemas.vocabulary import CallKind, Outcome

MAX_HAPPENINGS = 8
"""Of one object; a row keeps `limits.MAX_WORDS` words."""

Statement = tuple[int, Outcome, int, str | None]
"""When it was so, what was said, minor units, and of which case."""


def by_definition(statements: Iterable[Statement]) -> int:
    """The last success or verdict, less each case whose last word since then is that it took something."""
    in_time = sorted(statements, key=lambda each: each[0])
    last = max(index for index, each in enumerate(in_time) if each[1] is Outcome.SUCCEEDED)
    taken: dict[str | None, int] = {}
    for _, outcome, amount_minor, case in in_time[last + 1 :]:
        if outcome is Outcome.DISPUTE_WON:
            taken[case] = 0
        elif outcome is not Outcome.DISPUTE_OPENED:
            taken[case] = amount_minor
    return max(0, in_time[last][2] - sum(taken.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One word that the gateway owes."""

    outcome: Outcome
    amount_minor: int
    case: str | None
    at_ms: int


@dataclass(slots=True, kw_only=True)
class BankObject:
    """One thing at the gateway: a sale, a capture or a refund."""

    reference: str
    kind: CallKind
    gross_minor: int
    balance_minor: int
    disputes: dict[str, int] = field(default_factory=dict)  # open ones
    taken: dict[str, int] = field(default_factory=dict)  # by case, while it can come back
    happenings: int = 0
    cases: int = 0
    statements: list[Statement] = field(default_factory=list)

    def say(self, outcome: Outcome, amount_minor: int, case: str | None, *, at_ms: int) -> Told:
        """Keep that it was so, and return the word of it."""
        self.statements.append((at_ms, outcome, amount_minor, case))
        return Told(outcome=outcome, amount_minor=amount_minor, case=case, at_ms=at_ms)

    def happen(self, chance: random.Random, *, at_ms: int, most: int = MAX_HAPPENINGS) -> list[Told]:
        """Let something happen to it that its state allows, move the money, and return the words that are owed."""
        if self.happenings >= most:
            return []
        self.happenings += 1
        moves = [self.take_back, self.take_back, self._open_dispute]
        if self.disputes:
            moves += [self._lose, self._win]
        if any(case.startswith("dispute") for case in self.taken):
            moves += [self._win_back]
        if self.balance_minor < self.gross_minor and not self.disputes:
            moves += [self._make_again, self._make_again]
        return chance.choice(moves)(chance, at_ms)

    def take_back(self, chance: random.Random, at_ms: int, *, whole: bool = False) -> list[Told]:
        """Take back some of what is there, or all of it, under a case of its own."""
        left_minor = self.balance_minor - sum(self.disputes.values())
        if left_minor <= 0:
            return []
        amount_minor = left_minor if whole else _amount(chance, left_minor)
        self.cases += 1
        case = f"reversal-{self.reference}-{self.cases}"
        self.balance_minor -= amount_minor
        self.taken[case] = amount_minor
        return [self.say(Outcome.REVERSED, amount_minor, case, at_ms=at_ms)]

    def _open_dispute(self, chance: random.Random, at_ms: int) -> list[Told]:
        left_minor = self.balance_minor - sum(self.disputes.values())
        if left_minor <= 0 or self.kind is CallKind.REFUND:
            return []
        self.cases += 1
        case = f"dispute-{self.reference}-{self.cases}"
        self.disputes[case] = _amount(chance, left_minor)
        return [self.say(Outcome.DISPUTE_OPENED, self.disputes[case], case, at_ms=at_ms)]

    def _lose(self, chance: random.Random, at_ms: int) -> list[Told]:
        case = chance.choice(sorted(self.disputes))
        amount_minor = self.disputes.pop(case)
        self.balance_minor -= amount_minor
        self.taken[case] = amount_minor
        told = [self.say(Outcome.DISPUTE_LOST, amount_minor, case, at_ms=at_ms)]
        if chance.random() < 0.4:  # the same loss as a reversal of its own: it counts once
            told.append(self.say(Outcome.REVERSED, amount_minor, case, at_ms=at_ms + 1))
        return told

    def _win(self, chance: random.Random, at_ms: int) -> list[Told]:
        case = chance.choice(sorted(self.disputes))
        return [self.say(Outcome.DISPUTE_WON, self.disputes.pop(case), case, at_ms=at_ms)]

    def _win_back(self, chance: random.Random, at_ms: int) -> list[Told]:
        case = chance.choice(sorted(each for each in self.taken if each.startswith("dispute")))
        amount_minor = self.taken.pop(case)
        self.balance_minor += amount_minor
        return [self.say(Outcome.DISPUTE_WON, amount_minor, case, at_ms=at_ms)]

    def _make_again(self, chance: random.Random, at_ms: int) -> list[Told]:
        """Carry it out once more by itself: all of it counts again, and what was taken before cannot come back."""
        del chance
        self.balance_minor = self.gross_minor
        self.taken.clear()
        return [self.say(Outcome.SUCCEEDED, self.gross_minor, None, at_ms=at_ms)]


def _amount(chance: random.Random, most_minor: int) -> int:
    return most_minor if chance.random() < 0.3 else chance.randint(1, most_minor)
