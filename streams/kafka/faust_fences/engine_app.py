"""What the fences ask of the app that they are installed in: ours, and what they use of Faust's own.

`worker_app.WorkerApp` keeps it. The other fences name this protocol and not the app, which names them.
"""

import asyncio
from typing import Any, Protocol

from faust.types import TP

from streams.kafka.changelog_ledger import ChangelogLedger
from streams.kafka.offset_ledger import OffsetLedger
from streams.kafka.pipeline import Pipeline
from streams.kafka_clients.lease import Lease


class EngineApp(Protocol):
    """An app that knows the pipeline of its worker."""

    ledger: OffsetLedger[tuple[str, int]]
    changelog_ledger: ChangelogLedger[TP]
    lease: Lease
    pipeline: Pipeline
    source_topics: frozenset[str]
    partitions_resumed: asyncio.Event
    """Set when a partition may be fetched from again."""
    revocations: int
    """How often partitions were given away. What was read or begun before the last time is over: the group's generation
    does not tell, since it rises only when the next assignment comes."""
    fetches_ended: int
    """How many fetches have ended; what they brought is in the ledgers, and in the queues once the next one begins."""
    assigned_after: int
    """How many revocations came before the assignment that is being served, or recovered."""

    # Faust's own.
    conf: Any
    consumer: Any
    monitor: Any
    on_rebalance_complete: Any
    consumer_generation_id: int

    @property
    def assignor(self) -> Any:
        """Who says which partitions are owned, which are replicated here."""
        ...

    @property
    def flow_control(self) -> Any:
        """Who lets records flow, and stops them."""
        ...

    def FlowControlQueue(self, *, maxsize: int, clear_on_resume: bool) -> Any:  # noqa: N802 -- Faust's own name
        """Faust's queue that stands still with the flow."""
        ...

    def on_rebalance_end(self) -> None:
        """Faust's end of a rebalance."""
        ...

    # Ours.
    def is_assigned(self, generation: int) -> bool:
        """Return whether the assignment of this generation stands."""
        ...

    def records_waiting(self) -> bool:
        """Return whether a delivered record waits for the handler."""
        ...

    def delivery_is_immediate(self) -> bool:
        """Return whether a record that is delivered now cannot be made to wait."""
        ...

    def connection_options(self) -> dict[str, Any]:
        """Return how an aiokafka client of its own reaches the broker."""
        ...

    async def start_fetching(self) -> None:
        """Start Faust's fetcher, unless it runs."""
        ...

    async def on_lanes_ready(self, generation: int) -> None:
        """Rows are recovered and positions sought; no input flows yet."""
        ...

    async def on_lanes_revoked(self) -> None:
        """Inputs are drained and committed, the partitions go away."""
        ...

    def on_worker_ready(self) -> None:
        """Inputs flow."""
        ...
