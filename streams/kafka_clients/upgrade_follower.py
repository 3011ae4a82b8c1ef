"""As which release the log is written: a live view of the compacted topic `upgrades.v1`.

Called by the shell of every program that speaks to the log (`streams.cli.program`), by `payment-engine upgrade` and by
the tools that write. Follows by `topic_follower`. The highest release that was finished holds: none is taken back.
"""

from collections.abc import Callable
from typing import Any

import structlog

from schemas.decode_errors import OtherReleaseError, SchemaAwaitedError
from schemas.messages import DecodeError, MessageCodec
from schemas.misconfigured import MisconfiguredError
from schemas.records.upgrades import UPGRADE_KEY, UpgradeFinished
from schemas.releases import UPGRADE_IT, OutdatedError, release_to_write
from schemas.topics import UPGRADES
from streams.kafka_clients.connection import KafkaConnection
from streams.kafka_clients.consumer import build_reader
from streams.kafka_clients.topic_follower import TopicFollower

log = structlog.get_logger(__name__)


class UpgradeView:
    """The last upgrade that was finished. Pure; the follower feeds it."""

    def __init__(self, codec: MessageCodec) -> None:
        self._codec = codec
        self._finished: UpgradeFinished | None = None
        self.invalid = 0

    def current(self) -> UpgradeFinished | None:
        """Return the highest release's record; None: no upgrade was finished on this log."""
        return self._finished

    def take(self, key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes], ...]) -> str | None:
        """Take one record. Returns None, or why it was not taken.

        Raises: SchemaAwaitedError, OtherReleaseError: a later release's words for it.
        """
        if value is None or key != UPGRADE_KEY:
            return self._refused("not under the key of releases")
        try:
            _, record = self._codec.decode(value, headers, ours=True)
        except (SchemaAwaitedError, OtherReleaseError):
            raise
        except DecodeError as error:
            return self._refused(str(error))
        if not isinstance(record, UpgradeFinished):
            return self._refused("not about an upgrade")
        if self._finished is None or record.release > self._finished.release:
            self._finished = record
        return None

    def _refused(self, why: str) -> str:
        self.invalid += 1
        return why


def write_as_finished(codec: MessageCodec, finished: UpgradeFinished | None) -> None:
    """Have the codec write as the log is written, after this upgrade was the last to be finished. Twice is safe.

    Raises:
        OutdatedError: a later release was finished.
        MisconfiguredError: a release between that one and this one was not.
    """
    release = None if finished is None else finished.release
    this = codec.own_release
    if release is not None and release > this:
        raise OutdatedError(UPGRADES, f"the upgrade to release {release} is finished, this is {this}; {UPGRADE_IT}")
    if release is not None and release < this - 1:
        raise MisconfiguredError(
            f"{UPGRADES}: this is release {this}, and the last upgrade that was finished is that to release {release}: "
            f"upgrade to release {this - 1} first, and say `payment-engine upgrade finish` there"
        )
    codec.write_as(release_to_write(release, this=this))


class UpgradeFollower(TopicFollower[UpgradeFinished | None]):
    """Follows `upgrades.v1` until it is stopped, and has the codec write as the log is written."""

    def __init__(
        self,
        connection: KafkaConnection,
        codec: MessageCodec,
        *,
        topic: str = UPGRADES,
        build: Callable[[KafkaConnection], Any] = build_reader,
    ) -> None:
        """Take the codec that the whole program writes with."""
        self._codec = codec
        super().__init__(connection, UpgradeView(codec), topic=topic, build=build, on_change=self._follow_on)

    async def start(self) -> None:
        """Read the topic to its end, then follow it in the background.

        Raises: as `TopicFollower.start`, and as `write_as_finished`.
        """
        self._codec.write_as(release_to_write(None, this=self._codec.own_release))
        await super().start()

    def _follow_on(self) -> None:
        write_as_finished(self._codec, self.current())
        log.info("release_written", release=self._codec.release)
