"""All that touches private names of aiokafka, in one folder; `FENCES` is its table.

Called by `connection`, which installs it before any client is built, by `consumer`, `producer` and their users, and by
the fences of Faust. Four modules mend aiokafka's own classes (`install`); what the others hold is called. Nobody
outside this folder and `streams.kafka.faust_fences` touches a private name: a test of the architecture looks.
"""

from typing import Final

from streams.kafka_clients.aiokafka_fences import closed_transport, header_names, late_connections, own_cancellations
from streams.kafka_clients.aiokafka_fences.fence import Fence

WRITTEN_AGAINST: Final = "0.14.0"
"""The version of aiokafka. Look at each fence again after an upgrade; a test fails until this says so."""

FENCES: Final = (
    Fence(
        name="closed_transport.install",
        upstream="#1038",
        breaks="on uvloop a write to a connection that was just reset ends a consumer's fetching for good, in silence",
    ),
    Fence(
        name="header_names.install",
        upstream="",
        breaks="one header whose name is not UTF-8 ends every reader of its partition, one after the other",
    ),
    Fence(
        name="late_connections.install",
        upstream="",
        breaks="a connection that is made while its client closes is closed by nobody: a socket is lost",
    ),
    Fence(
        name="own_cancellations.install",
        upstream="#647",
        breaks="whoever stops a consumer looks cancelled, and does not end what else it was to end",
    ),
    Fence(
        name="abandonable.AbandonableProducer",
        upstream="",
        breaks="a producer without a broker cannot be stopped: its tasks and deliveries stay for ever",
    ),
    Fence(
        name="fenced_consumer.FencedConsumer.getmany",
        upstream="",
        breaks="a consumer that fetches no more returns nothing for ever; after a failed poll it never counts as idle",
    ),
    Fence(
        name="fenced_consumer.check_reading",
        upstream="",
        breaks="the same, for whoever does not poll by `getmany`",
    ),
    Fence(
        name="fenced_consumer.check_membership",
        upstream="",
        breaks="a member that joins its group no more is not noticed by whoever does not poll by `getmany`",
    ),
    Fence(
        name="fenced_consumer.watch_heartbeats",
        upstream="",
        breaks="a worker that was frozen does not know until when its partitions are its own, and acts on them",
    ),
    Fence(
        name="fenced_consumer.watch_joins",
        upstream="",
        breaks="a worker that was frozen takes an assignment for fresh that was given away long ago",
    ),
    Fence(
        name="fenced_consumer.read_places",
        upstream="",
        breaks="a transaction's marker at the end of a partition counts as lag for ever; no wait for one has a name",
    ),
    Fence(
        name="fenced_consumer.log_ends",
        upstream="",
        breaks="rows and results behind an open transaction are taken for not being there",
    ),
    Fence(
        name="fenced_consumer.ask_partitions",
        upstream="",
        breaks="a topic that nobody subscribed to has no partitions",
    ),
    Fence(
        name="fenced_consumer.committed_notes",
        upstream="",
        breaks="what the last owner of a partition has left under way is not known to the next",
    ),
    Fence(name="fenced_consumer.group_of", upstream="", breaks="a loss of records is told without its group"),
)


def install() -> None:
    """Mend aiokafka's own classes. Before any client is built; safe to call twice."""
    closed_transport.install()
    header_names.install()
    late_connections.install()
    own_cancellations.install()
