"""A stand-in for the stream processors: it reads commands and queries off a real broker and replies as they would.

The rules are those of `tests.support.fake_engine`; only the way in and out is Kafka.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.messages import MessageCodec
from schemas.records.commands import (
    CaptureRequested,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)
from schemas.records.payments import PaymentQueried
from tests.support.fake_engine import FakeEngine
from tests.support.waiting import until_async

READ_TIMEOUT_MS = 200
ASK_TIMEOUT_S = 10.0
ASK_AGAIN_S = 0.25
GONE_TIMEOUT_S = 20.0
COORDINATOR_MOVES = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError._TIMED_OUT,
    }
)


@contextlib.asynccontextmanager
async def responding(bootstrap_servers: str, codec: MessageCodec, *, partitions: int) -> AsyncIterator[FakeEngine]:
    """Answer every command and query appended from now on, while the block lasts.

    Raises:
        TimeoutError: A real engine runs on this broker and would answer too.
    """
    await _alone_on(bootstrap_servers)
    engine = FakeEngine(codec)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, group_id=None, enable_auto_commit=False)
    async with consumer, AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        sources = [TopicPartition(name, n) for name in (topics.COMMANDS, topics.QUERIES) for n in range(partitions)]
        ends = await consumer.end_offsets(sources)
        consumer.assign(sources)
        for source in sources:
            consumer.seek(source, ends[source])
        task = asyncio.create_task(_respond(engine, consumer, producer))
        try:
            yield engine
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _alone_on(bootstrap_servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})

    async def no_worker() -> bool:
        asked = admin.describe_consumer_groups(["orders"], request_timeout=ASK_TIMEOUT_S)["orders"]
        try:
            return not (await asyncio.wrap_future(asked)).members
        except KafkaException as error:
            if error.args[0].code() in COORDINATOR_MOVES:
                return False  # a broker that has just started: ask again
            raise

    # Static members that were stopped stay in the group until their session ends.
    await until_async(no_worker, timeout_s=GONE_TIMEOUT_S, look_again_s=ASK_AGAIN_S)


async def _respond(engine: FakeEngine, consumer: "AIOKafkaConsumer[bytes, bytes]", producer: AIOKafkaProducer) -> None:
    while True:  # until the block ends
        batches = await consumer.getmany(timeout_ms=READ_TIMEOUT_MS)
        for record in (record for batch in batches.values() for record in batch):
            envelope, said = engine.codec.decode(record.value, tuple(record.headers))
            assert isinstance(
                said,
                PaymentRequested
                | CaptureRequested
                | VoidRequested
                | RefundRequested
                | CompletionRequested
                | PaymentQueried,
            )
            await engine.append(said, envelope)
            assert envelope.replypartition is not None
            for value, headers in engine.taken_replies():
                await producer.send_and_wait(
                    topics.REPLIES, value=value, headers=list(headers), partition=envelope.replypartition
                )
