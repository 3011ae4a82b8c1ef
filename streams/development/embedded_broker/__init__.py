"""An in-memory broker that speaks Kafka's protocol, for development and quick tests.

It keeps nothing and is not Kafka.
"""

from streams.development.embedded_broker.apis import ApiKey
from streams.development.embedded_broker.broker import EmbeddedBroker, NotLoopbackError
from streams.development.embedded_broker.faults import ArmedFault, Effect, Fault
from streams.development.embedded_broker.topic_store import MemoryLimits

__all__ = ["ApiKey", "ArmedFault", "Effect", "EmbeddedBroker", "Fault", "MemoryLimits", "NotLoopbackError"]
