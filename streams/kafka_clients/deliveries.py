"""What the log owes: records that a producer has taken and that are not yet settled.

Kept by `producer.LogWriter`, which asks for how long the log has been silent, and what a producer leaves open at its
end. By producer, since one that was replaced may settle nothing any more: its broker is gone, and it waits for ever.
Pure; times arrive as arguments (monotonic seconds).
"""

import asyncio
from collections.abc import Hashable
from typing import Any

Delivery = asyncio.Future[Any]


class Deliveries:
    """Unsettled deliveries by producer, oldest first. Bounded by who sends: `LogWriter` lets so many be under way."""

    def __init__(self) -> None:
        self._owed: dict[Hashable, dict[Delivery, float]] = {}  # producers in the order they came
        self._answering: Hashable = None  # the newest producer through which the log was heard

    def opened(self, producer: Hashable) -> None:
        """Say that this producer takes records from now on, in place of those before it."""
        self._owed[producer] = {}

    def sent(self, producer: Hashable, delivery: Delivery, at_s: float) -> None:
        """Say that the open producer has taken a record."""
        self._owed[producer][delivery] = at_s

    def settled(self, producer: Hashable, delivery: Delivery) -> None:
        """Say that a delivery has ended, however it did. Safe to call after `closed`."""
        self._owed.get(producer, {}).pop(delivery, None)

    def heard(self, producer: Hashable) -> None:
        """Say that the log acknowledged a record of this producer."""
        if producer is next(reversed(self._owed), None):
            self._answering = producer

    def oldest_s(self) -> float | None:
        """Return when the oldest record was sent that the log should have answered, or None when there is none.

        Once the log has answered a producer, what is owed to those before it is their trouble, and not its silence.
        """
        oldest_s: float | None = None
        for producer, owed in reversed(self._owed.items()):
            oldest_s = next(iter(owed.values()), oldest_s)
            if producer is self._answering:
                break
        return oldest_s

    def closed(self, producer: Hashable) -> list[Delivery]:
        """Forget a producer, and return what it leaves unsettled. Safe to call twice."""
        if producer is self._answering:
            self._answering = None
        return [delivery for delivery in self._owed.pop(producer, {}) if not delivery.done()]
