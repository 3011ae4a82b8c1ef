"""What should go wrong, or otherwise than usual, with a call: by rule (the control endpoint) or by token.

The server asks `ScenarioBook.pick` once for each request. Rules come first, in the order they were made; then the
token (see `tokens`). Chance is drawn from each rule's own seed, so that a run can be repeated.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from random import Random
from typing import Final

from gateway_adapters.mock.courses import Manner, Scenario
from gateway_adapters.mock.tokens import TokenPlan
from schemas.vocabulary import CallKind

MAX_RULES: Final = 1000
MAX_COUNTED: Final = 100_000
"""Orders whose token scenarios are counted; beyond it the oldest is forgotten and may happen once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A scenario with its numbers."""

    scenario: Scenario
    delay_ms: int | None = None  # SLOW: how much later; else: until each thing that comes later
    retry_after_s: int = 1  # RATE_LIMITED
    amount_minor: int | None = None  # of what is a part by itself: how much, in minor units
    manners: frozenset[Manner] = frozenset()  # how notices come, beside what the scenario says itself


@dataclass(slots=True, kw_only=True)
class Rule:
    """A wish made at the control endpoint. Every condition that is given must hold."""

    happening: Happening
    order_id: str | None = None
    origin_id: str | None = None
    kind: CallKind | None = None
    gateway_key: str | None = None
    account: str | None = None
    times: int | None = 1  # None: until cleared
    probability: float = 1.0
    seed: int = 0
    hits: int = 0
    _chance: Random = field(init=False)

    def __post_init__(self) -> None:
        self._chance = Random(self.seed)  # noqa: S311 - a repeatable run, not a secret

    def applies(self, request: "Request") -> bool:
        """Return whether the rule strikes this request, and count it if so."""
        if self.times is not None and self.hits >= self.times:
            return False
        wishes = (
            (self.order_id, request.order_id),
            (self.origin_id, request.origin_id),
            (self.kind, request.kind),
            (self.gateway_key, request.gateway_key),
            (self.account, request.account),
        )
        if any(wish is not None and wish != actual for wish, actual in wishes):
            return False
        if self._chance.random() >= self.probability:
            return False
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a scenario is picked by."""

    kind: CallKind
    order_id: str | None
    origin_id: str | None
    gateway_key: str | None
    plan: TokenPlan | None  # of the token that opened the payment
    account: str


class ScenarioBook:
    """The rules in force and how often each token's scenario has struck. In memory: a restart forgets both."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._struck: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def add(self, rule: Rule) -> None:
        """Put a rule in force, behind those there are. Raises: ValueError when there are MAX_RULES."""
        if len(self.rules) >= MAX_RULES:
            raise ValueError(f"at most {MAX_RULES} rules")
        self.rules.append(rule)

    def clear(self) -> None:
        """Forget all rules."""
        self.rules.clear()

    def pick(self, request: Request) -> Happening | None:
        """Return what happens to this request; None: nothing unusual."""
        for rule in self.rules:
            if rule.applies(request):
                return rule.happening
        return self._by_token(request)

    def _by_token(self, request: Request) -> Happening | None:
        plan = request.plan
        if plan is None or plan.scenario is None or request.order_id is None:
            return None
        opens = request.kind in (CallKind.AUTHORIZE, CallKind.SALE)
        if not (opens if plan.kind is None else request.kind is plan.kind):
            return None
        counted = (request.origin_id or "", request.order_id, request.kind.value)
        struck = self._struck.pop(counted, 0)
        self._struck[counted] = struck + 1
        if len(self._struck) > MAX_COUNTED:
            self._struck.popitem(last=False)
        if plan.times is not None and struck >= plan.times:
            return None
        return Happening(scenario=plan.scenario, manners=plan.manners)
