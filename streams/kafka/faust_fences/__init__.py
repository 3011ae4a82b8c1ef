"""All that touches private names of Faust, in one folder; `FENCES` is its table.

Used by `worker`, which has an app built by `worker_app.build_app`: it installs all of them, in that app and nowhere
else. `engine_app` is what they ask of the app, `tables` what recovery fills, `recovery` and `transport` the overrides.
Each has a test that fails without it (`tests/unit/test_faust_overrides.py`, `tests/integration/test_faust_worker.py`),
so that it can go when upstream mends its cause.
"""

from typing import Final

from streams.kafka_clients.aiokafka_fences.fence import Fence

WRITTEN_AGAINST: Final = "0.15.3"
"""The version of faust-streaming. Look at each fence again after an upgrade; a test fails until this says so."""


def _fence(name: str, breaks: str, *, upstream: str = "", faust_md: str = "") -> Fence:
    return Fence(name=name, upstream=upstream, breaks=breaks, faust_md=faust_md)


FENCES: Final = (
    _fence(
        "transport.LedgerConsumer._new_offset",
        "out-of-order acknowledgements commit past an input that is not done",
        upstream="#606",
        faust_md="1",
    ),
    _fence("transport.LedgerConsumer.ack", "as `_new_offset`: Faust's bookkeeping would decide", faust_md="1"),
    _fence(
        "transport.LedgerConsumer._add_gap", "holes between offsets are taken for records, or for done", faust_md="1"
    ),
    _fence(
        "transport.LedgerConsumer._getmany",
        "records that were fetched and then dropped are committed over; a set of partitions that is emptied during a "
        "fetch means all of them",
        faust_md="10",
    ),
    _fence("transport.LedgerConsumer._read_again", "records of a partition that was paused meanwhile are dropped"),
    _fence(
        "transport.LedgerConsumer._note_places",
        "a partition that ends in a transaction's marker is never committed to its end",
        faust_md="28",
    ),
    _fence("transport.LedgerConsumer.on_buffer_full", "a sleep of one second when all partitions are full"),
    _fence("transport.LedgerConsumer.on_buffer_drop", "as `on_buffer_full`, which stops nothing"),
    _fence("transport.LedgerConsumer._wait_next_records", "a sleep of one second when all partitions are paused"),
    _fence("transport.LedgerConsumer.resume_partitions", "as `_wait_next_records`, which it wakes"),
    _fence("transport.LedgerConsumer.wait_first", "four tasks for each record, to be able to abandon its delivery"),
    _fence(
        "transport.LedgerConsumer._filter_tps_with_pending_acks",
        "as `_new_offset`: Faust asks its own bookkeeping what there is to commit",
        faust_md="1",
    ),
    _fence(
        "transport.LedgerConsumer._commit_offsets",
        "an offset counts as committed although the commit failed; `flush`, which comes first, is no barrier",
        upstream="#316",
        faust_md="2, 5",
    ),
    _fence(
        "transport.LedgerConsumer.wait_empty",
        "a drain waits for counts of references, and commits what is not done",
        faust_md="3, 12",
    ),
    _fence(
        "transport.LedgerConsumer.on_partitions_revoked",
        "the state of acknowledgements is dropped before the drain",
        faust_md="1",
    ),
    _fence("transport.LedgerConsumer.perform_seek", "a partition without a commit is not sought at all", faust_md="10"),
    _fence(
        "transport.LedgerConsumer.verify_all_partitions_active",
        "false alarms: a monotonic clock is compared with the time of day",
    ),
    _fence(
        "transport.LedgerConsumer.check_membership",
        "nobody asks aiokafka why it joins its group no more: it waits for that, and so does the worker",
    ),
    _fence(
        "transport.LedgerConsumer._new_consumer_thread",
        "the thread runs asyncio's own loop beside a worker on uvloop, which cost 12 to 14 % of payments in one trial",
        faust_md="29",
    ),
    _fence(
        "transport.PromptConsumerThread.on_start",
        "nobody is told of heartbeats, so a frozen owner speaks when it wakes up",
        faust_md="9",
    ),
    _fence(
        "transport.PromptConsumerThread._create_worker_consumer",
        "a fetch waits 1.5 s for records and holds up every other question on its connection; what aborted "
        "transactions wrote is read",
        faust_md="18, 28",
    ),
    _fence(
        "transport.PromptConsumerThread._highwaters",
        "a recovery ends without the rows that stand behind an open transaction",
        faust_md="28",
    ),
    _fence(
        "transport.PromptConsumerThread.getmany",
        "a fetch that was asked for before a rebalance may be made after the next seek, and move its place",
        faust_md="22",
    ),
    _fence(
        "transport.PromptConsumerThread._fetch",
        "a consumer that fetches no more is not noticed; records that were deleted unread are passed over in silence",
        faust_md="23",
    ),
    _fence("transport.IdempotentProducer._settings_extra", "there is no setting for an idempotent producer"),
    _fence("transport.IdempotentProducer.flush", "a stop after a failure raises from a buffer that is not used"),
    _fence(
        "recovery.OrderedRecovery.on_recovery_completed",
        "partitions are un-paused before the seek and before the queues are cleared; records in a buffer count as "
        "recovered; lanes open without rows that were fetched",
        faust_md="10, 21, 25",
    ),
    _fence(
        "recovery.OrderedRecovery.on_rebalance",
        "a recovery whose assignment is over goes on, and un-pauses the next one's partitions",
        faust_md="21",
    ),
    _fence("recovery.OrderedRecovery._resume_streams", "as `on_recovery_completed`, without tables", faust_md="10"),
    _fence(
        "recovery.OrderedRecovery._build_offsets",
        "local rows that are ahead of the log are believed; a long changelog is read record by record",
        faust_md="8, 15",
    ),
    _fence("recovery.OrderedRecovery._seek_offsets", "reading begins at earliest - 1", upstream="#176", faust_md="7"),
    _fence(
        "recovery.OrderedRecovery._wait",
        "a step that took too long ends the recovery without a word, and the worker is never ready",
        faust_md="16",
    ),
    _fence(
        "recovery.OrderedRecovery._build_highwaters", "as `_wait`: the question has no bound of its own", faust_md="16"
    ),
    _fence(
        "recovery.OrderedRecovery._end_at_position",
        "a recovery hangs when the changelog's last offset is a transaction's marker or was compacted away",
        faust_md="7",
    ),
    _fence("recovery.OrderedTableManager.recovery", "there is no setting for another recovery"),
    _fence(
        "recovery.OrderedTableManager.changelog_queue",
        "a standby never has the rows that waited in the queue when the flow was resumed",
        faust_md="24",
    ),
    _fence("recovery.OrderedTableManager.on_start", "a wait of one second for tables that are all there"),
    _fence(
        "tables.ChangelogTable.apply_changelog_batch",
        "a failure is logged and its rows are left out; records are applied to another partition, or out of order",
        faust_md="26",
    ),
    _fence("tables.ChangelogTable.on_start", "Faust opens a store of its own, which is not used"),
    _fence(
        "tables.ChangelogTable.on_stop", "as `on_start`; and our rows stay open, which another process then waits for"
    ),
    _fence(
        "tables.ChangelogTable.persisted_offset",
        "recovery takes its place from Faust's store, which is written before the changelog has acknowledged",
        faust_md="2, 8",
    ),
    _fence("tables.ChangelogTable.need_active_standby_for", "Faust asks its own store, which is not used"),
    _fence("tables.ChangelogTable.reset_state", "as `need_active_standby_for`"),
    _fence(
        "tables.ChangelogTable.on_rebalance",
        "rows of partitions that went away stay open: the process that has them now cannot open them",
    ),
    _fence("tables.ChangelogTable.on_recovery_completed", "as `need_active_standby_for`"),
    _fence("worker_app.WorkerApp._new_transport", "there is no setting for another transport"),
    _fence("worker_app.WorkerApp.on_first_start", "folders are made for a store that is not used"),
    _fence("worker_app.WorkerApp.on_rebalance_start", "the state of no sensors is taken for a lost one: two warnings"),
    _fence("worker_app.WorkerApp.on_init_dependencies", "a monitor counts every record for pages that nobody serves"),
    _fence("worker_app.WorkerApp.wait_for_crash", "nobody is told that a service of Faust's has crashed the app"),
)
