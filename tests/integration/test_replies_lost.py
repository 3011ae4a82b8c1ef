"""A worker on Apache Kafka whose replies no broker takes: it goes on, and commits."""

import asyncio

import pytest

from schemas.topics import REPLIES
from streams.kafka.step import InputEvent, Outgoing, RowReader, Step
from tests.kafka_cluster import FoundKafka
from tests.support.kafka_topics import committed_offsets, producing
from tests.support.metric_pages import rise_of
from tests.support.tally_worker import Tally, build_tally, finished, make_topics, quick_settings
from tests.support.waiting import until

pytestmark = pytest.mark.kafka

INPUTS = 200
WAIT_S = 30.0
NOWHERE = 10_000
"""A partition that no topic here has."""


class _Replying(Tally):
    """Answers whoever waits for it, too."""

    def __call__(self, event: InputEvent, read: RowReader) -> Step:
        step = super().__call__(event, read)
        reply = Outgoing(topic=REPLIES, key=None, value=b"reply", partition=NOWHERE)
        return Step(rows=step.rows, speak=[reply, *step.speak])


async def test_worker_commits_all_that_it_handled_when_no_broker_takes_its_replies(kafka: FoundKafka) -> None:
    topics = make_topics(kafka.bootstrap_servers)
    async with producing(kafka.bootstrap_servers) as producer:
        sent = [await producer.send(topics.inputs, str(n).encode(), key=b"key-%d" % (n % 25)) for n in range(INPUTS)]
        await asyncio.gather(*sent)
    tally, lost = _Replying(topics.outputs), rise_of("replies_lost")
    worker = build_tally(kafka.bootstrap_servers, topics, settings=quick_settings(), handler=tally)
    serving = asyncio.create_task(worker.run())
    await until(lambda: finished(worker, tally) >= INPUTS or worker.crashed is not None, timeout_s=WAIT_S)
    await until(lambda: lost() == INPUTS or worker.crashed is not None, timeout_s=WAIT_S)
    worker.request_stop()
    async with asyncio.timeout(WAIT_S):
        await serving
    committed = committed_offsets(kafka.bootstrap_servers, topics.app_id, topics.inputs, topics.partitions)
    assert sum(offset for offset in committed.values() if offset > 0) == INPUTS
