"""Are the topics of a worker there, with the partitions it needs? It creates none: `topics apply` does.

Called by `worker` before Faust starts, which would otherwise wait for ever for a missing topic, or crash at the first
write to a changelog with fewer partitions than its source.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from streams.kafka.errors import TopicsNotReadyError
from streams.kafka_clients.errors import classify

CHECK_TIMEOUT_S = 15.0
"""Longest wait for the brokers' answers."""

APPEAR_TIMEOUT_S = 5.0
"""How long a topic may stay unknown: one that was just created is not known to every broker at once."""

ASK_AGAIN_S = 0.1
"""Between two questions."""


async def check_topics(
    *, bootstrap_servers: str, partitions: int, topics: Iterable[str], security: Mapping[str, Any]
) -> None:
    """Returns when every topic has exactly that many partitions. Asks for all topics, which never creates one.

    Raises:
        TopicsNotReadyError: some are missing or different, all of them named.
        RetryableError, MisconfiguredError: nobody answers, or the brokers refuse the question.
    """
    wanted = sorted(set(topics))
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, **security)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await client.bootstrap()
            faults = await _faults_that_stay(client, wanted, partitions)
    except (TimeoutError, OSError, KafkaError) as silent:
        raise classify(silent) from silent
    finally:
        await client.close()
    if faults:
        raise TopicsNotReadyError("; ".join(faults))


async def _faults_that_stay(client: AIOKafkaClient, wanted: list[str], partitions: int) -> list[str]:
    deadline_s = asyncio.get_running_loop().time() + APPEAR_TIMEOUT_S
    while True:
        cluster = await client.fetch_all_metadata()
        faults = [fault for topic in wanted if (fault := _fault(cluster, topic, partitions)) is not None]
        if not faults or asyncio.get_running_loop().time() > deadline_s:
            return faults
        await asyncio.sleep(ASK_AGAIN_S)


def _fault(cluster: Any, topic: str, partitions: int) -> str | None:
    found = cluster.partitions_for_topic(topic)
    if not found:
        return f"{topic} is missing"
    if len(found) != partitions:
        return f"{topic} has {len(found)} partitions, not {partitions}"
    if len(cluster.available_partitions_for_topic(topic)) != partitions:
        return f"{topic} has partitions without a leader"
    return None
