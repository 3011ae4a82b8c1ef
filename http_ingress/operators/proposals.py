"""What waits for a second person: the proposals on `decisions.v1`, without those that were approved or have expired.

Made by `decision_log` for each look at the log, in the log's order. Pure.
"""

from typing import Final

from schemas.identifiers import DecisionId
from schemas.records.decisions import DecisionMade, DecisionProposed

MAX_PENDING: Final = 200
"""Proposals that may wait at once: more than a person can judge. The next one is refused until some are gone."""


class Proposals:
    """Proposals and decisions by their id. The first record of an id counts, whatever follows it."""

    def __init__(self) -> None:
        self._proposed: dict[DecisionId, DecisionProposed] = {}
        self._made: dict[DecisionId, DecisionMade] = {}

    def take(self, record: DecisionMade | DecisionProposed) -> None:
        """Take the next record of the log."""
        if isinstance(record, DecisionMade):
            self._made.setdefault(record.decision_id, record)
        else:
            self._proposed.setdefault(record.decision_id, record)

    def made(self, decision_id: DecisionId) -> DecisionMade | None:
        """Return the decision of this id, if it was made."""
        return self._made.get(decision_id)

    def proposed(self, decision_id: DecisionId) -> DecisionProposed | None:
        """Return the proposal of this id, whatever has become of it."""
        return self._proposed.get(decision_id)

    def pending(self, now_ms: int) -> tuple[DecisionProposed, ...]:
        """Return what still waits for another person, soonest to expire first."""
        waiting = (
            each
            for each in self._proposed.values()
            if each.decision_id not in self._made and now_ms < each.expires_at_ms
        )
        return tuple(sorted(waiting, key=lambda each: (each.expires_at_ms, each.decision_id)))
