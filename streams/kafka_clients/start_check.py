"""May this component start on this cluster? Asked before it joins its group, by what the catalogue and topology say.

Called by `cli.program`. A component that starts on a topic that is set up wrongly looks well for weeks, until a table
has been deleted by age. So what would lose or misread something refuses the start, and the message names the command
that mends it. What only differs from the catalogue is logged: `doctor` says it too.
"""

import time
from collections.abc import Sequence
from typing import Final

import structlog

from schemas.misconfigured import MisconfiguredError
from schemas.topics import Topic, topic
from streams.kafka_clients.admin import Action, TopicAdmin, TopicRow, TopicSizes
from streams.kafka_clients.backlog import refuse_lost_records
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.draft_rows import refuse_draft_rows
from streams.topology import Component

APPEAR_TIMEOUT_S: Final = 5.0
"""How long a topic may stay unknown: one that was just created is not known to every broker at once."""

SETTLE_TIMEOUT_S: Final = 1.0
"""How long a topic may seem unsafe: not every broker knows at once of what was mended a moment ago."""

ASK_AGAIN_S: Final = 0.2

_UNSAFE: Final = frozenset({"topic", "partitions", "cleanup.policy", "message.timestamp.type"})
"""Aspects that refuse a start: it is not there, keys in other partitions, rows deleted by age, producers' dates."""

_COPIES: Final = "replication.factor"
_IN_SYNC: Final = "min.insync.replicas"

log = structlog.get_logger(__name__)


def check_start(
    connection: KafkaConnection, component: Component, sizes: TopicSizes, *, accept_loss: bool = False
) -> None:
    """Return if the component may start. Blocking; changes nothing, but see `refuse_lost_records`. Safe to repeat.

    Raises:
        MisconfiguredError: a topic of it is missing or set up in a way that loses records; the message names all. Or
            a table holds rows of before the first release.
        RecordsLostError: records were deleted before its group had read them, and that is not accepted.
        RetryableError: the cluster did not tell in time.
    """
    names = dict.fromkeys((*component.reads, *component.writes))
    check_topics(connection, [topic(name) for name in names], sizes)
    if component.group is not None:
        refuse_lost_records(connection, component.group, component.source_topics, accept_loss=accept_loss)
    refuse_draft_rows(connection, component.changelogs)


def check_topics(connection: KafkaConnection, wanted: Sequence[Topic], sizes: TopicSizes) -> None:
    """Return if these topics are there, and safe. Raises: MisconfiguredError, RetryableError: as `check_start`."""
    admin = TopicAdmin(connection, sizes, catalogue=wanted)
    rows, unsafe = _rows_once_settled(admin, sizes)
    if unsafe:
        raise MisconfiguredError("; ".join(map(_told, unsafe)) + f": {_remedy(unsafe)}")
    for row in rows:
        if row.action is not Action.NONE:
            log.warning("topic_differs", topic=row.topic, action=row.aspect, wanted=row.wanted, actual=row.actual)


def _rows_once_settled(admin: TopicAdmin, sizes: TopicSizes) -> tuple[Sequence[TopicRow], Sequence[TopicRow]]:
    """Return all rows of the plan, and those that are unsafe and stay so."""
    begun = time.monotonic()
    while True:  # until the longest wait
        rows = admin.plan(configs_may_be_hidden=True)
        unsafe = [row for row in rows if row.action is not Action.NONE and _is_unsafe(row, rows, sizes)]
        missing = any(row.action is Action.CREATE for row in rows)
        if not unsafe or time.monotonic() - begun > (APPEAR_TIMEOUT_S if missing else SETTLE_TIMEOUT_S):
            return rows, unsafe
        time.sleep(ASK_AGAIN_S)


def _is_unsafe(row: TopicRow, rows: Sequence[TopicRow], sizes: TopicSizes) -> bool:
    if row.aspect not in {_COPIES, _IN_SYNC}:
        return row.aspect in _UNSAFE
    # Not each difference: only more copies in sync than there are, when every write is refused.
    differing = {each.aspect: int(each.actual) for each in rows if each.topic == row.topic and each.actual.isdigit()}
    copies = differing.get(_COPIES, sizes.replication_factor)
    return differing.get(_IN_SYNC, sizes.min_insync_replicas) > copies


def _told(row: TopicRow) -> str:
    return f"{row.topic} {f'has {row.aspect} {row.actual}, not {row.wanted}' if row.actual else 'is missing'}"


def _remedy(unsafe: Sequence[TopicRow]) -> str:
    if any(row.action is Action.REFUSE for row in unsafe):
        return "`payment-engine doctor` says how each is mended"
    return "`payment-engine topics apply` mends it"
