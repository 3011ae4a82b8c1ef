"""How far an upgrade is, and its end: the compacted topic `upgrades.v1`.

Called by `payment-engine upgrade`, by the doctor, and by the commands that write records of the engine: these write as
the log is written, like every program. The programs follow the topic by themselves.
"""

from dataclasses import dataclass

from schemas.event_types import TYPES
from schemas.messages import Envelope, MessageCodec
from schemas.records.upgrades import UPGRADE_KEY, UpgradeFinished
from schemas.releases import FIRST_RELEASE
from schemas.topics import UPGRADES
from streams.kafka_clients.upgrade_follower import UpgradeView, write_as_finished
from streams.operator_tools.errors import NotFoundError
from streams.operator_tools.log import Log, NewRecord

SOURCE = "payment-engine/upgrade"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """How far it is."""

    own_release: int  # of this program
    finished: UpgradeFinished | None  # the last one that was finished on this log
    written: int  # the release as which programs like this one write

    @property
    def is_open(self) -> bool:
        """Whether this release still writes as the one before it, so that the upgrade can be taken back."""
        return self.written < self.own_release


def upgrade_of(log: Log, codec: MessageCodec) -> Upgrade:
    """Return how far the upgrade to this release is, and have the codec write as the log is written.

    Raises:
        OutdatedError: a later release was finished here.
        MisconfiguredError: a release before this one was passed over.
        NotFoundError, UnreachableError: as `Log.read`.
    """
    view = UpgradeView(codec)
    for record in log.read(UPGRADES):
        view.take(record.key, record.value, record.headers)
    write_as_finished(codec, view.current())
    return Upgrade(own_release=codec.own_release, finished=view.current(), written=codec.release)


def write_as_the_log_is(log: Log, codec: MessageCodec) -> None:
    """Have the codec write as every program writes on this log. Raises: as `upgrade_of`, but for a missing topic."""
    try:
        upgrade_of(log, codec)
    except NotFoundError:  # before `topics apply`: then no upgrade can have been finished
        write_as_finished(codec, None)


def finish(log: Log, codec: MessageCodec, *, now_ms: int) -> Upgrade:
    """Say that no program of an earlier release runs, nor will; return how far it was before. Twice changes nothing.

    Raises: as `upgrade_of`; UnreachableError: the broker did not take it, or not provably.
    """
    upgrade = upgrade_of(log, codec)
    if upgrade.is_open:
        record = UpgradeFinished(release=codec.own_release, finished_at_ms=now_ms)
        envelope = Envelope(id=f"release-{record.release}", source=SOURCE, type=TYPES[UpgradeFinished], time_ms=now_ms)
        # As the release before still writes: whoever is left over reads it, and stops with the reason.
        message = codec.encode(record, envelope)
        log.append([NewRecord(topic=UPGRADES, key=UPGRADE_KEY, value=message.value, headers=message.headers)])
        codec.write_as(codec.own_release)
    return upgrade


def can_be_finished(upgrade: Upgrade) -> bool:
    """Return whether there is, or was, a release before this one."""
    return upgrade.own_release > FIRST_RELEASE
