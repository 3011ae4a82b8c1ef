"""Asks a broker for its time, which Kafka has no question for: by one record on a topic of its own.

Called by `examination` when the operator allows a write. The topic stamps its records itself (LogAppendTime), holds one
record, and is deleted at once.
"""

import uuid
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so

from streams.kafka_clients.connection import KafkaConnection
from streams.operator_tools.doctor.clock_check import judge_probe
from streams.operator_tools.doctor.findings import Finding
from streams.operator_tools.errors import UnreachableError
from streams.operator_tools.rights import PROBE_TOPICS

TIMEOUT_S = 10.0
PROBES = 2


def probe_clock(connection: KafkaConnection, *, clock_ms: Callable[[], int]) -> Finding:
    """Return how far the broker's clock is from this one. Raises: UnreachableError when the probe cannot be written."""
    admin = AdminClient(connection.confluent_options())
    topic = f"{PROBE_TOPICS}{uuid.uuid4().hex}"
    wanted = NewTopic(
        topic, num_partitions=1, config={"message.timestamp.type": "LogAppendTime", "retention.ms": "60000"}
    )
    try:
        admin.create_topics([wanted], request_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)
        try:
            return _stamped(connection, topic, clock_ms)
        finally:
            admin.delete_topics([topic], request_timeout=TIMEOUT_S)[topic].result(TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        raise UnreachableError(f"the clock cannot be probed: {error}") from error


def _stamped(connection: KafkaConnection, topic: str, clock_ms: Callable[[], int]) -> Finding:
    delivered: list[Message] = []

    def keep(error: KafkaError | None, message: Message) -> None:
        if error is None:
            delivered.append(message)

    producer = Producer({**connection.confluent_options(), "acks": "all", "message.timeout.ms": int(TIMEOUT_S * 1000)})
    # The first round trip finds the leader and opens the connection; only the second is measured.
    for _ in range(PROBES):
        sent_ms = clock_ms()
        producer.produce(topic, b"clock", on_delivery=keep)
        if producer.flush(TIMEOUT_S):
            break
        acknowledged_ms = clock_ms()
    if len(delivered) < PROBES:
        raise UnreachableError("the broker did not take the clock's probe")
    _, stamped_ms = delivered[-1].timestamp()
    return judge_probe(sent_ms=sent_ms, stamped_ms=stamped_ms, acknowledged_ms=acknowledged_ms)
