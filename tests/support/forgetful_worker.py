"""A tally worker that forgets records: it has Faust's own queue of changelog records, cleared when the flow is resumed.

Run as a process (`python -m tests.support.forgetful_worker '<json>'`, the argument is `tally_worker`'s), for what a
worker does when records are dropped between log and rows. It ends then, and what it left open ends with it. When it is
a standby, records always wait in that queue as its own recovery ends, which else is chance.
"""

import asyncio
import json
import sys
from typing import Any, cast

from faust.tables.manager import TableManager
from faust.types import EventT

from streams.kafka.faust_fences.recovery import OrderedTableManager
from streams.kafka.faust_fences.tables import ChangelogTable
from streams.kafka.faust_fences.worker_app import FaustParts, WorkerApp
from tests.support.tally_worker import run_process
from tests.support.waiting import until

WAIT_S = 30.0
SLOW_S = 0.0005


class _ForgetfulManager(OrderedTableManager):
    changelog_queue = TableManager.changelog_queue


async def slowly(_table: ChangelogTable, _event: EventT[Any]) -> None:
    """For `ChangelogTable.on_changelog_event`: records wait for their turn."""
    await asyncio.sleep(SLOW_S)


_lanes_ready = WorkerApp.on_lanes_ready


async def once_records_wait(app: WorkerApp, generation: int) -> None:
    """For `WorkerApp.on_lanes_ready`, right before the flow is resumed: records wait then, when it is a standby."""
    manager = cast("OrderedTableManager", app.tables)
    recovery = manager.recovery
    if any(recovery.standby_remaining()[tp] > 0 for tp in recovery.standby_tps):
        await until(lambda: not manager.changelog_queue.empty(), timeout_s=WAIT_S, look_again_s=SLOW_S)
    await _lanes_ready(app, generation)


async def _slowly_and_said(table: ChangelogTable, event: EventT[Any]) -> None:
    await slowly(table, event)
    print(read_line(event.message.partition, event.message.offset), flush=True)  # noqa: T201 -- the test waits for it


def read_line(partition: int, offset: int) -> str:
    """What the process prints when it has read this record of its changelog, to apply it with others, later."""
    return f"READ {partition} {offset};"


if __name__ == "__main__":
    ChangelogTable.on_changelog_event = _slowly_and_said  # type: ignore[assignment, method-assign]
    WorkerApp.on_lanes_ready = once_records_wait  # type: ignore[assignment, method-assign]
    run_process(json.loads(sys.argv[1]), FaustParts(table_manager=_ForgetfulManager))
