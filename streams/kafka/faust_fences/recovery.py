"""Faust's table recovery, with what loses events or hangs overridden. Put into an app by `worker_app.build_app`.

What each override is against stands in `FENCES` of this folder, and each has a test that fails without it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP, AppT
from mode import Service

from streams.kafka.changelog_catch_up import RECORDS_MIN, Span, catch_up
from streams.kafka.changelog_ledger import NOTHING
from streams.kafka.errors import DeliveryGapError
from streams.kafka.faust_fences.engine_app import EngineApp
from streams.kafka.faust_fences.tables import ChangelogTable
from streams.kafka.partition_rows import ChangelogRecord

POSITION_CHECK_INTERVAL_S = 0.5
"""Between two looks whether the consumer has passed the changelog's end without a record at its last offset."""

FETCHES_TO_KNOW = 2
"""Fetches that must end before a consumer past the end has nothing more to bring: one may have been on its way, with
records that moved the position and that nobody has seen yet; the second began when all of the first was queued."""

FETCHES_TO_LOSE = 200
"""Fetches after which a record that was fetched and has not come is lost; 20 s when nothing else is fetched."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PastEnd:
    """A partition whose consumer is past its end though records are lacking, as it was first seen."""

    came: int
    """The offset up to which records have come."""
    last_fetched: int
    revocations: int
    """Of the app: the assignment that this belongs to."""
    fetches_ended: int

    def is_as_in(self, other: "_PastEnd") -> bool:
        """Whether nothing came or was fetched between the two looks, and the assignment is the same."""
        return (self.came, self.last_fetched, self.revocations) == (other.came, other.last_fetched, other.revocations)


class OrderedRecovery(Recovery):
    """Seek, open the flow, and only then un-pause."""

    app: EngineApp  # type: ignore[assignment]  # Faust's own type knows nothing of ours

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Begin the recovery of an assignment."""
        self.app.assigned_after = self.app.revocations
        self.app.changelog_ledger.keep_only(assigned)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Hand over to the pipeline, then let source records flow; not when the assignment is over meanwhile.

        Its successor's recovery follows then. Records that flowed before that one's own seek and lanes would be taken
        and never done: not committed, and not read again until the next rebalance.
        """
        consumer = self.app.consumer
        # Faust counts a record as recovered when it is in a buffer, and leaves it there when nothing else is missing.
        self.flush_buffers()
        await self.app.on_rebalance_complete.send()
        self._set_recovery_ended()
        assignment = consumer.assignment()
        if not self.app.is_assigned(generation_id) or self._fails_for_lacking_rows():
            return
        timeout_s = self.app.conf.broker_request_timeout
        if assignment:
            await self._wait(_within(timeout_s, consumer.perform_seek()))
            await self._wait(_within(timeout_s, self.app.on_lanes_ready(generation_id)))
        if not self.app.is_assigned(generation_id):
            log.warning("recovery_superseded", generation=generation_id)
            return
        self.completed.set()
        self.app.flow_control.resume()  # clears the queues, so nothing may have been let in before
        consumer.resume_flow()
        consumer.resume_partitions({tp for tp in assignment if not self._is_changelog_tp(tp)})
        await self.app.start_fetching()
        self.tables.on_actives_ready()
        if not self.app.assignor.assigned_standbys():
            self.tables.on_standbys_ready()
        self.app.on_rebalance_end()
        self.app.on_worker_ready()

    def _fails_for_lacking_rows(self) -> bool:
        """Fail the worker, and return True, when a record that this recovery has fetched is not applied.

        Whatever ended the recovery: an owner that decides without a row charges twice, and a restart reads it again.
        """
        for tp in self.active_tps:
            rows_at = self.tp_to_table[tp].persisted_offset(tp)
            end, own = self.active_highwaters[tp], NOTHING if rows_at is None else rows_at
            if self.app.changelog_ledger.lacks(tp, end, own=own):
                last = self.app.changelog_ledger.last_fetched(tp)
                gap = f"{tp}: recovery ended at changelog offset {own}, but {last} was fetched"
                self.app.pipeline.fail(DeliveryGapError(gap))
                return True
        return False

    async def _resume_streams(self, generation_id: int = 0) -> None:
        """Without tables Faust takes this way, with the same race."""
        await self.on_recovery_completed(generation_id)

    async def _wait(self, coro: Any, timeout: Any = None) -> None:  # noqa: ASYNC109, ARG002 -- Faust's own signature
        """Faust bounds each step, and takes one that is too long for a stop of the worker: it is never ready then.

        One step may catch up, and is bounded by its progress; questions to the broker have a bound of their own.
        """
        await super()._wait(coro)

    async def _build_highwaters(self, consumer: Any, tps: set[TP], destination: Counter[TP], title: str) -> None:
        async with asyncio.timeout(self.app.conf.broker_request_timeout):
            await super()._build_highwaters(consumer, tps, destination, title)

    async def _build_offsets(
        self,
        consumer: Any,
        tps: set[TP],
        destination: Counter[TP],
        title: str,
    ) -> None:
        """Where each partition is to be read from: after what the local rows hold, if the log agrees with them.

        What an owner lacks, if it is much, is read here and now.
        """
        generation_id = self.app.consumer_generation_id
        async with asyncio.timeout(self.app.conf.broker_request_timeout):
            earliest = await consumer.earliest_offsets(*tps)
            ends = await consumer.highwaters(*tps)
        for tp in tps:
            table = self.tp_to_table[tp]
            known = table.persisted_offset(tp)
            if known is not None and known >= (ends.get(tp) or 0):
                log.error("local_rows_ahead_of_changelog", topic=tp.topic, partition=tp.partition, local_offset=known)
                if isinstance(table, ChangelogTable):
                    table.rows.wipe(tp.partition)
                known = None
            before_first = (earliest.get(tp) or 0) - 1
            destination[tp] = before_first if known is None else max(known, before_first)
            self.app.changelog_ledger.note_applied(tp, destination[tp])
        if title == "active":
            await self._catch_up(destination, ends, generation_id)

    async def _catch_up(self, applied: Counter[TP], ends: Mapping[TP, int | None], generation_id: int) -> None:
        spans = {tp: Span(first=applied[tp] + 1, end=end) for tp, end in ends.items() if end and end > applied[tp] + 1}
        records = sum(span.end - span.first for span in spans.values())
        if records < RECORDS_MIN:
            return

        def merge(tp: TP, batch: Sequence[ChangelogRecord]) -> bool:
            """Opens no partition that another worker may have by now."""
            if self.app.consumer_generation_id != generation_id or tp not in self.app.consumer.assignment():
                return False
            table = self.tp_to_table[tp]
            assert isinstance(table, ChangelogTable)
            table.merge(tp.partition, batch)
            return True

        log.info("catching_up", records=records, partitions=len(spans))
        if await catch_up(self.app.connection_options(), spans, merge):
            for tp, span in spans.items():
                applied[tp] = span.end - 1
                self.app.changelog_ledger.note_applied(tp, span.end - 1)
            log.info("caught_up", records=records, partitions=len(spans))

    async def _seek_offsets(
        self,
        consumer: Any,
        tps: set[TP],
        offsets: Counter[TP],
        title: str,  # noqa: ARG002 -- Faust's own signature
    ) -> None:
        places = {tp: offsets[tp] + 1 for tp in tps}  # records from before may raise the offsets meanwhile
        async with asyncio.timeout(self.app.conf.broker_request_timeout):
            await consumer.seek_wait(places)
        for tp, place in places.items():
            self.app.changelog_ledger.note_seek(tp, place)

    @Service.task
    async def _end_at_position(self) -> None:
        """End the recovery by the consumer's position when no record can come any more."""
        seen: dict[TP, _PastEnd] = {}
        while not self.should_stop:
            await self.sleep(POSITION_CHECK_INTERVAL_S)
            seen = await self._look_past_ends(seen)

    async def _look_past_ends(self, before: Mapping[TP, _PastEnd]) -> dict[TP, _PastEnd]:
        """Pass over the empty ends that were seen before; returns what is to be looked at again.

        The position alone says nothing: it is ahead of every record that the consumer has handed out, and a fetch of
        hundreds may have been answered while it was asked for.
        """
        seen: dict[TP, _PastEnd] = {}
        for tp in self._behind():
            position = await self._position(tp)
            if position is None or tp not in self._behind() or position <= self.active_highwaters[tp]:
                continue
            now = self._past_end(tp)
            first = before.get(tp)
            if first is None or not first.is_as_in(now):
                seen[tp] = now
            elif self._came_all(tp, now, fetches=now.fetches_ended - first.fetches_ended):
                self._pass_over(tp)
            else:
                seen[tp] = first
        return seen

    def _behind(self) -> list[TP]:
        return [tp for tp, left in self.active_remaining().items() if left > 0] if self.in_recovery else []

    def _past_end(self, tp: TP) -> _PastEnd:
        return _PastEnd(
            came=self.active_offsets[tp],
            last_fetched=self.app.changelog_ledger.last_fetched(tp),
            revocations=self.app.revocations,
            fetches_ended=self.app.fetches_ended,
        )

    def _came_all(self, tp: TP, now: _PastEnd, *, fetches: int) -> bool:
        """Whether everything fetched of the partition came; fails the worker when some never will.

        After so many fetches of which none brought anything of it.
        """
        if fetches < FETCHES_TO_KNOW or not self.tables.changelog_queue.empty():
            return False
        if now.last_fetched <= now.came:
            return True
        if fetches >= FETCHES_TO_LOSE:
            gap = f"{tp}: changelog offset {now.last_fetched} was fetched, and nothing came behind {now.came}"
            self.app.pipeline.fail(DeliveryGapError(gap))
        return False

    def _pass_over(self, tp: TP) -> None:
        self.active_offsets[tp] = self.active_highwaters[tp]
        if not self.need_recovery():
            self.flush_buffers()
            self._set_recovery_ended()
            self.signal_recovery_end.set()

    async def _position(self, tp: TP) -> int | None:
        consumer = self.app.consumer
        if tp not in consumer.assignment() or self.signal_recovery_start.is_set():
            return None
        try:
            async with asyncio.timeout(self.app.conf.broker_request_timeout):
                position: int | None = await consumer.position(tp)
        except IllegalStateError:  # the consumer's thread has let go of it, and this loop is told in a moment
            return None
        return position


async def _within(limit_s: float, awaited: Awaitable[object]) -> None:
    """Await it for so long at most. Raises: TimeoutError."""
    async with asyncio.timeout(limit_s):
        await awaited


class OrderedTableManager(TableManager):
    """Brings `OrderedRecovery` in."""

    app: EngineApp  # type: ignore[assignment]  # Faust's own type knows nothing of ours
    recovery_type: type[Recovery] = OrderedRecovery

    @property
    def recovery(self) -> Recovery:
        """The recovery service, made when first asked for."""
        if self._recovery is None:
            self._recovery = self.recovery_type(cast("AppT", self.app), self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    @property
    def changelog_queue(self) -> Any:
        """The records read of changelogs. Never cleared, so that what is applied is a beginning of what was read.

        Faust clears it when the flow is resumed; the standbys read by then, on behind what was in it. An owner that had
        been such a standby decided without those rows. What waits from before a rebalance does no harm: every partition
        is read again from where its local rows end, which is before.
        """
        if self._changelog_queue is None:
            self._changelog_queue = self.app.FlowControlQueue(
                maxsize=self.app.conf.stream_buffer_maxsize, clear_on_resume=False
            )
        return self._changelog_queue

    async def on_start(self) -> None:
        """All tables are registered before the start."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
