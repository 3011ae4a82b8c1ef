"""What the calls and the webhooks of a simulator meet for a while: rules with a probability, as the Mock has them.

Told by the control endpoint (`control`), asked by each simulator's process for each call and each webhook. A seed gives
the same draws each time.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from tests.support.gateway_under_test import Situation

USUAL_DELAY_S: Final = (0.0, 0.4)
"""Between a call and the webhook about it: at times before the answer, mostly after."""

BETWEEN_WORDS_S: Final = 1.1
"""Between two words about one thing: vendors date them by whole seconds."""

SHUFFLED_S: Final = (0.0, 3.0)


@dataclass(slots=True, kw_only=True)
class Rule:
    """Lets a share of all calls meet a situation."""

    situation: Situation
    probability: float
    chance: random.Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """How webhooks come."""

    delay_s: tuple[float, float] = USUAL_DELAY_S
    twice: float = 0.0  # share of those that come a second time
    shuffled: bool = False


USUAL_POST: Final = Post()


@dataclass(slots=True, kw_only=True)
class Weather:
    """The rules that hold now."""

    chance: random.Random = field(default_factory=lambda: random.Random(0))
    rules: list[Rule] = field(default_factory=list)
    post: Post = USUAL_POST

    def clear(self) -> None:
        """Let calls and webhooks come as usual."""
        self.rules.clear()
        self.post = USUAL_POST

    def met_by_call(self, able: Collection[Situation]) -> Situation | None:
        """Return what this call meets: the first rule that is drawn. `able`: what can happen to a call of its kind."""
        for rule in self.rules:
            if rule.situation in able and rule.chance.random() < rule.probability:
                return rule.situation
        return None

    def delays_s(self, place: int) -> list[float]:
        """Return when a webhook comes, seconds from now, once or twice. `place`: how many words of its call precede."""
        delay_s = self.chance.uniform(*self.post.delay_s) + place * BETWEEN_WORDS_S
        if self.post.shuffled:
            delay_s += self.chance.uniform(*SHUFFLED_S)
        again = self.chance.random() < self.post.twice
        return [delay_s, delay_s + self.chance.uniform(*SHUFFLED_S)] if again else [delay_s]
