"""What a consumer group has committed, asked from outside. Called by `doctor` and the tests; calls confluent-kafka.

By a consumer that never subscribes, and so never joins. Not by librdkafka's admin client, which can ask it too: the
whole process dies by SIGSEGV when the coordinator has moved meanwhile (librdkafka #5040), which is when one asks.
"""

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.kafka_clients.connection import KafkaConnection

Place = tuple[str, int]
"""Topic and partition."""


def committed_offsets(
    connection: KafkaConnection, group: str, places: Iterable[Place], *, timeout_s: float
) -> dict[Place, int]:
    """Return the offset that the group would read next; a place without a commit is left out. Blocking.

    Raises:
        KafkaException: the group's coordinator did not answer in time, or refuses for one of the places.
    """
    consumer = Consumer({**connection.confluent_options(), "group.id": group, "enable.auto.commit": False})
    try:
        answers = consumer.committed([TopicPartition(*place) for place in places], timeout=timeout_s)
    finally:
        consumer.close()
    for each in answers:
        if each.error is not None:
            raise KafkaException(each.error)
    return {(each.topic, each.partition): each.offset for each in answers if each.offset >= 0}
