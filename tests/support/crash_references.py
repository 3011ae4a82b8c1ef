"""The references index as a worker of the crash model: what the orders agent does with it, without codec.

It reads what stands under a reference's key and what orders say of their references, and appends a webhook once more
under its order's key. The rules are `streams.domain.references`.
"""

from collections.abc import Iterable
from typing import Any, Final

from schemas.identifiers import AccountName, GatewayName
from schemas.records.references import ParkedWebhook, ReferenceDropped, ReferenceKept, ReferenceRow
from streams.domain import references
from tests.support.crash_log import Entry, Worker, Write

REFERRING: Final = "gateway.webhooks.referring"
"""Webhooks under the key of a reference."""

KEPT: Final = "gateway.references"
INBOX: Final = "gateway.webhooks.forwarded"
"""Webhooks that were found to be an order's, under its key."""

LETTERS: Final = "letters"


class Index(Worker[Any]):
    """Finds the orders of webhooks that name only a reference."""

    name = "index"
    inputs = (REFERRING, KEPT)
    hasty = False  # what is parked is forwarded at once, and leaves the row with that
    forgetful = False  # a replay writes no row that is as it was
    orderly = False  # each step writes a row, so that none overtakes an earlier one: the lanes of the real worker
    impatient = False  # what comes before its reference is dropped

    def handle(self, topic: str, entry: Entry, *, possible_replay: bool) -> Iterable[Write]:
        del topic
        self._version += 1
        match entry.value:
            case ReferenceKept():
                return self._registered(entry, possible_replay=possible_replay)
            case ReferenceDropped():
                return [self._row(f"ref|{entry.key}", references.drop(self.rows.get(f"ref|{entry.key}"), entry.value))]
            case ParkedWebhook():
                return self._arrived(entry, possible_replay=possible_replay)
        raise AssertionError(entry.value)

    def start(self) -> None:
        self._version = 0
        super().start()
        self._version = self._applied + len(self.logs.topics[f"changelog:{self.name}"]) + 1

    def _row(self, key: str, value: object) -> Write:
        self.rows[key] = value
        return Write(f"changelog:{self.name}", key, value, table=True, version=self._version)

    def _parked(self, key: str) -> tuple[ParkedWebhook, ...]:
        return self.rows.get(f"parked|{key}") or ()

    def _registered(self, entry: Entry, *, possible_replay: bool) -> Iterable[Write]:
        known = self.rows.get(f"ref|{entry.key}")
        came = references.register(known, entry.value, possible_replay=possible_replay)
        yield self._row(f"ref|{entry.key}", came.row)
        waiting = self._parked(entry.key)
        if self.hasty:
            yield self._row(f"parked|{entry.key}", ())
            yield from (self._forwarded(came.row, each) for each in waiting)
        elif came.release:
            yield from (Write(REFERRING, entry.key, each) for each in waiting)

    def _arrived(self, entry: Entry, *, possible_replay: bool) -> Iterable[Write]:
        known, before = self.rows.get(f"ref|{entry.key}"), self._parked(entry.key)
        if self.impatient and known is None:
            return
        came = references.arrive(known, before, entry.value, now_ms=entry.at_ms, room=True)
        # Written again on a replay: a zombie may have handled it too, and its row must not be the last one.
        if came.parked != before or self.orderly or (possible_replay and came.parked and not self.forgetful):
            yield self._row(f"parked|{entry.key}", came.parked)
        if came.forward:
            assert known is not None
            yield self._forwarded(known, entry.value)
        if came.again:
            yield Write(REFERRING, entry.key, entry.value)
        if came.unknown is not None:
            yield Write(LETTERS, entry.key, entry.value)

    def _forwarded(self, known: ReferenceRow, said: ParkedWebhook) -> Write:
        return Write(INBOX, known.order_id, said)


class ImpatientIndex(Index):
    """An index that parks nothing."""

    impatient = True


def key_of(gateway: GatewayName, account: AccountName, reference: str) -> str:
    """Return the key under which a reference stands."""
    return f"{gateway}|{account}|{reference}"
