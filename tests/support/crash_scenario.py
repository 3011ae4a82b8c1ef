"""What may happen in a history of the crash model, what is wrong in it on purpose, and the routing policy."""

from dataclasses import dataclass, field
from typing import Final

from schemas.identifiers import GatewayRoute
from schemas.records.claims import RoutePlan
from schemas.records.commands import Command
from schemas.vocabulary import DeclineClass
from tests.support.crash_calls import Whims
from tests.support.crash_log import Faults

PLANS: Final = (("alpha", "beta/eu", "alpha"), ("beta/eu", "alpha", "beta/eu"), ("beta/eu",), ("alpha", "alpha"))
PLANS_ONCE: Final = (("alpha", "beta/eu", "gamma"), ("gamma", "alpha", "beta/eu"), ("beta/eu",), ("beta/eu", "alpha"))
"""No gateway twice. A notice names no attempt: of a gateway that had two in doubt, nobody could tell which it means."""

PLANS_OF_ACCOUNTS: Final = (
    ("beta/eu", "beta/us", "alpha"),
    ("alpha/two", "alpha", "beta/us"),
    ("beta/us",),
    ("alpha", "beta/eu"),
)
"""Two accounts of each gateway, which number their objects alike: what one says is about nothing of the other's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What may happen in a run, and what is wrong on purpose."""

    commands: int = 10
    crashes: int = 10  # at most, pauses included
    crash_percent: float = 1.0  # of turns
    zombies: bool = False
    faults: Faults = field(default_factory=Faults)
    whims: Whims = field(default_factory=Whims)
    plans: tuple[tuple[str, ...], ...] = PLANS
    fallback_classes: tuple[DeclineClass, ...] = ()  # declines after which another gateway is asked
    policy_version: int = 1  # at first; version 0 prefers the gateway that honours keys
    plan_not_pinned: bool = False  # an operation is dispatched by the policy of the moment, not by the claim's plan
    moves_on_in_doubt: bool = False  # a call that may have been carried out is made at the next gateway
    comes_back: bool = False  # a payment goes back to a gateway that has declined it
    executor_forgets: bool = False  # the executor sends again without its memory, the results topic
    absence_is_proof: bool = False  # what an inquiry does not find is taken for never executed, at once
    anyone_takes_back: bool = False  # a success is taken back by whoever says so
    late_success_is_silent: bool = False  # what was given up and succeeds after all is not heard
    contradictions_are_forgotten: bool = False  # what a gateway said against itself stops no further attempt
    decisions: int = 0  # of persons, about what is open
    desk_has_the_last_word: bool = False  # a person's word counts, whatever the gateway says later
    times_are_ignored: bool = False  # words count in the order in which they came
    desk_is_never_asked_again: bool = False  # what contradicts a person is not heard
    failed_is_failed: bool = False  # a payment that failed lets another one in, whatever a person should look at
    never_driven_again: bool = False  # no sweep asks for what has waited for long
    counts_twice: bool = False  # each word that takes something back counts, whatever was said before
    deficits_are_silent: bool = False  # more is given back, or taken, than there is, and nobody is asked
    returns_are_silent: bool = False  # a payment stands again beside the one that replaced it, and nobody is asked
    leaving: bool = False  # settled operations leave their order's row as soon as they may
    left_whatever_it_is: bool = False  # they leave it whatever they have become since that was asked for
    index_is_impatient: bool = False  # what names a reference before it is known is dropped


@dataclass(slots=True)
class Policy:
    """The routing policy of the moment: each version has its own order of gateways."""

    plans: tuple[tuple[str, ...], ...]
    fallback_classes: tuple[DeclineClass, ...] = ()
    version: int = 1

    def plan_for(self, command: Command) -> RoutePlan:
        return self.plan

    @property
    def plan(self) -> RoutePlan:
        routes = tuple(map(GatewayRoute, self.plans[self.version % len(self.plans)]))
        return RoutePlan(
            policy_version=self.version, gateways=routes, refusal=None, fallback_classes=self.fallback_classes
        )
