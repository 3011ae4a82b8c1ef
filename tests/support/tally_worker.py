"""A small worker for the fault tests: it tallies the ids it has seen for each key, and answers each input.

Run as a process (`python -m tests.support.tally_worker '<json>'`) it is killed, frozen and stopped; in a test it runs
on the test's own loop. An input is a key and an id; the row of the key is the list of its ids; the answer is
`id:position`. An id that the row has already changes nothing, but the row is written and the answer sent again: so a
replay shows.
"""

import asyncio
import dataclasses
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import structlog

from schemas.topics import changelog_topic
from streams.kafka.faust_fences.worker_app import FaustParts
from streams.kafka.step import InputEvent, Outgoing, RowReader, RowWrite, Step
from streams.kafka.worker import Worker, build_worker
from streams.kafka.worker_settings import WorkerSettings
from tests.support.kafka_topics import COMPACTED, create_topics, unique

TABLE = "tally"
READY_LINE = "WORKER READY"
STOPPED_LINE = "WORKER STOPPED"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TallyTopics:
    """One run's group and topics."""

    app_id: str
    inputs: str
    outputs: str
    partitions: int

    @property
    def changelog(self) -> str:
        """Where the rows are."""
        return changelog_topic(self.app_id, TABLE)


def make_topics(bootstrap_servers: str, *, partitions: int = 4) -> TallyTopics:
    """Create a run's topics, with names of its own."""
    app_id = unique("tally")
    topics = TallyTopics(app_id=app_id, inputs=f"{app_id}-in", outputs=f"{app_id}-out", partitions=partitions)
    create_topics(bootstrap_servers, [topics.inputs, topics.outputs], partitions=partitions)
    create_topics(bootstrap_servers, [topics.changelog], partitions=partitions, config=COMPACTED)
    return topics


def ids_of(row: bytes | None) -> list[int]:
    """The ids in a row, in the order of the log."""
    return [int(word) for word in row.split(b",")] if row else []


class Tally:
    """The handler."""

    def __init__(self, outputs: str):
        self._outputs = outputs
        self.events: list[InputEvent] = []

    def __call__(self, event: InputEvent, read: RowReader) -> Step:
        assert event.key is not None
        assert event.value is not None
        self.events.append(event)
        ids = ids_of(read(TABLE, event.key))
        number = int(event.value)
        if number not in ids:
            ids.append(number)
        row = ",".join(map(str, ids)).encode()
        answer = f"{number}:{ids.index(number)}".encode()
        return Step(
            rows=[RowWrite(table=TABLE, key=event.key, value=row)],
            speak=[Outgoing(topic=self._outputs, key=event.key, value=answer)],
        )


def finished(worker: Worker, tally: Tally) -> int:
    """How many inputs this worker has handled of which everything is acknowledged; never more than are."""
    return len(tally.events) - worker.pipeline.in_flight


def build_tally(
    bootstrap_servers: str,
    topics: TallyTopics,
    *,
    settings: WorkerSettings | None = None,
    handler: Tally | None = None,
    parts: FaustParts | None = None,
) -> Worker:
    """A tally worker on the running loop."""
    return build_worker(
        app_id=topics.app_id,
        bootstrap_servers=bootstrap_servers,
        source_topics=[topics.inputs],
        tables=[TABLE],
        partitions=topics.partitions,
        handler=handler or Tally(topics.outputs),
        settings=settings or quick_settings(),
        parts=parts,
    )


def quick_settings(
    *, data_dir: Path | None = None, instance_id: str | None = None, standby_replicas: int = 0
) -> WorkerSettings:
    """Short session and commit interval, so that a killed worker is missed soon."""
    return WorkerSettings(
        data_dir=data_dir,
        instance_id=instance_id,
        standby_replicas=standby_replicas,
        commit_interval_s=0.2,
        session_timeout_s=3.0,
        heartbeat_interval_s=0.5,
    )


def worker_command(
    bootstrap_servers: str,
    topics: TallyTopics,
    *,
    data_dir: Path | None = None,
    instance_id: str | None = None,
    standby_replicas: int = 0,
    module: str = "tests.support.tally_worker",
) -> list[str]:
    """The command line of a worker process; another module takes the same argument."""
    wanted = {
        "bootstrap_servers": bootstrap_servers,
        "topics": dataclasses.asdict(topics),
        "data_dir": None if data_dir is None else str(data_dir),
        "instance_id": instance_id,
        "standby_replicas": standby_replicas,
    }
    return [sys.executable, "-m", module, json.dumps(wanted)]


def run_process(wanted: dict[str, Any], parts: FaustParts | None = None) -> None:
    """Serve until SIGTERM or a failure, as the process that `worker_command` asks for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    import uvloop

    uvloop.run(_main(wanted, parts))


async def _main(wanted: dict[str, Any], parts: FaustParts | None) -> None:
    settings = quick_settings(
        data_dir=None if wanted["data_dir"] is None else Path(wanted["data_dir"]),
        instance_id=wanted["instance_id"],
        standby_replicas=wanted["standby_replicas"],
    )
    topics = TallyTopics(**wanted["topics"])
    worker = build_tally(wanted["bootstrap_servers"], topics, settings=settings, parts=parts)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.request_stop)
    announced = asyncio.create_task(_announce(worker))
    await worker.run()
    announced.cancel()
    print(STOPPED_LINE, flush=True)  # noqa: T201 -- the test waits for this line


async def _announce(worker: Worker) -> None:
    await worker.ready.wait()
    print(READY_LINE, flush=True)  # noqa: T201 -- the test waits for this line


if __name__ == "__main__":
    run_process(json.loads(sys.argv[1]))
