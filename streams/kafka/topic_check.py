"""Are the topics of a worker there, with the partitions it needs? It creates none: `topics apply` does.

Called by `worker` before Faust starts, which would otherwise wait for ever for a missing topic, or crash at the first
write to a changelog with fewer partitions than its source.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.client import AIOKafkaClient

from streams.kafka.errors import TopicsNotReadyError

CHECK_TIMEOUT_S = 15.0
"""Longest wait for the brokers' answer."""


async def check_topics(
    *, bootstrap_servers: str, partitions: int, topics: Iterable[str], security: Mapping[str, Any]
) -> None:
    """Returns when every topic has exactly that many partitions. Asks for all topics, which never creates one.

    Raises:
        TopicsNotReadyError: some are missing or different, all of them named; or nobody answers.
    """
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, **security)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await client.bootstrap()
            cluster = await client.fetch_all_metadata()
    except (TimeoutError, OSError) as silent:
        raise TopicsNotReadyError(f"no broker answers at {bootstrap_servers}: {silent!r}") from silent
    finally:
        await client.close()
    faults = [
        f"{topic} is missing" if not found else f"{topic} has {len(found)} partitions, not {partitions}"
        for topic in sorted(set(topics))
        if len(found := cluster.partitions_for_topic(topic) or ()) != partitions
    ]
    if faults:
        raise TopicsNotReadyError("; ".join(faults))
