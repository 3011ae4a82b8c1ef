"""A stock Faust worker that counts per key: the third client of the client contract.

Run as a process (`python -m tests.support.faust_counter ADDRESS APP_ID INSTANCE`), so that a test can kill it. It is
Faust as it comes, without our overrides: the contract is about the broker. Its table lives in memory, so every start
recovers it from the changelog. Each event is answered on the output topic by `key=count instance`.
"""

import sys
import tempfile
from pathlib import Path

import faust
import mode
from faust.types import StreamT

PARTITIONS = 4


def topics_of(app_id: str) -> tuple[str, str, str]:
    """The names of its input, output and changelog topics."""
    return f"{app_id}-in", f"{app_id}-out", f"{app_id}-counts-changelog"


def counter_app(address: str, app_id: str, instance: str) -> faust.App:
    """The application; not started."""
    app = faust.App(
        app_id,
        broker=f"kafka://{address}",
        store="memory://",
        datadir=str(Path(tempfile.gettempdir()) / app_id),  # Faust makes the folder even for tables in memory
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=PARTITIONS,
        topic_replication_factor=1,
        broker_session_timeout=4,
        broker_heartbeat_interval=0.5,
        broker_commit_interval=0.3,
        stream_wait_empty=True,
        agent_supervisor=mode.CrashingSupervisor,
    )
    input_name, output_name, _ = topics_of(app_id)
    source = app.topic(input_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    output = app.topic(output_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    counts = app.Table("counts", default=int, key_type=str, value_type=int, partitions=PARTITIONS)

    async def count(stream: StreamT[bytes]) -> None:
        async for event in stream.events():
            key = event.key.decode()
            counts[key] += 1
            await output.send(key=event.key, value=f"{key}={counts[key]} {instance}".encode())

    app.agent(source)(count)
    return app


if __name__ == "__main__":
    address, app_id, instance = sys.argv[1:]
    faust.Worker(counter_app(address, app_id, instance), loglevel="INFO").execute_from_commandline()
