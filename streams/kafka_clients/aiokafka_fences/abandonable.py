"""aiokafka's producer, with an end for when its broker is gone.

Made by `producer.build_producer`. aiokafka's `stop` waits until all is flushed, which is never without a broker. Cut
short, it leaves a task that waits for metadata that a closed client does not get any more, and records that are neither
acknowledged nor failed (producer/sender.py, client.py). Written against aiokafka 0.14.0.
"""

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError


class AbandonableProducer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka is untyped
    """A producer that can be given up."""

    async def abandon(self) -> None:
        """Disconnect, and end all that goes on. For after a `stop` that did not end; safe to call twice.

        What was not acknowledged may be written or not, and its delivery ends with a KafkaTimeoutError.
        """
        sender = self._sender.sender_task
        try:
            await self.client.close()
            self._end_waits_for_metadata()
            if sender is not None:
                sender.cancel()  # it waits for its requests first, which have failed with the connections
                await asyncio.wait([sender])
        finally:
            self._fail_deliveries()

    def _end_waits_for_metadata(self) -> None:
        self.client.force_metadata_update()
        metadata = self.client._md_update_fut  # noqa: SLF001 -- there is no public way to end who waits for it
        if not metadata.done():
            metadata.set_result(False)

    def _fail_deliveries(self) -> None:
        accumulator = self._message_accumulator
        for batches in accumulator._batches.values():  # noqa: SLF001 -- as above
            for batch in batches:
                batch.drain_ready()  # else asyncio complains of a failure that nobody was there to hear of
        accumulator.fail_all(KafkaTimeoutError())
