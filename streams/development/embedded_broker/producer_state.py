"""What a partition remembers of each idempotent producer: its epoch and its last batches.

Called by `partition_log.append`. The rules are Kafka's (ProducerAppendInfo.checkSequence and ProducerStateEntry): a
batch seen before is answered with its first offset and not stored again; a gap is refused; a producer the partition
has never heard of, or has forgotten, may start at any sequence.
"""

from collections import OrderedDict, deque
from typing import Final, NamedTuple

from streams.development.embedded_broker.limits import MAX_PRODUCERS_PER_PARTITION, REMEMBERED_BATCHES
from streams.development.embedded_broker.record_batch import BatchHeader

_SEQUENCE_MASK: Final = 0x7FFFFFFF  # sequences wrap from 2^31 - 1 to 0
NO_PRODUCER_ID: Final = -1


class OutOfOrderSequenceError(Exception):
    """A batch is missing before this one (OUT_OF_ORDER_SEQUENCE_NUMBER)."""


class StaleProducerEpochError(Exception):
    """A newer instance of the same producer has written (INVALID_PRODUCER_EPOCH)."""


class _AppendedBatch(NamedTuple):
    first_sequence: int
    last_sequence: int
    base_offset: int


class _Producer:
    """One producer id on one partition."""

    __slots__ = ("batches", "epoch")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: deque[_AppendedBatch] = deque(maxlen=REMEMBERED_BATCHES)


class ProducerStates:
    """All producers of one partition; the least recently heard ones are forgotten beyond the limit."""

    __slots__ = ("_producers",)

    def __init__(self) -> None:
        self._producers: OrderedDict[int, _Producer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._producers)

    def base_offset_of_duplicate(self, header: BatchHeader) -> int | None:
        """The offset at which this very batch was stored before, or None if it may be appended now.

        Raises:
            StaleProducerEpochError: the epoch is older than one seen.
            OutOfOrderSequenceError: the sequence does not follow the last one.
        """
        producer = self._producers.get(header.producer_id)
        if producer is None:
            return None
        if header.producer_epoch < producer.epoch:
            raise StaleProducerEpochError(f"epoch {header.producer_epoch}, newer is {producer.epoch}")
        if header.producer_epoch > producer.epoch:
            if header.base_sequence != 0:
                raise OutOfOrderSequenceError(f"a new epoch starts at sequence {header.base_sequence}, not 0")
            return None
        last = (header.base_sequence + header.last_offset_delta) & _SEQUENCE_MASK
        for batch in producer.batches:
            if batch.first_sequence == header.base_sequence and batch.last_sequence == last:
                return batch.base_offset
        expected = (producer.batches[-1].last_sequence + 1) & _SEQUENCE_MASK
        if header.base_sequence != expected:
            raise OutOfOrderSequenceError(f"sequence {header.base_sequence}, expected {expected}")
        return None

    def remember(self, header: BatchHeader, base_offset: int) -> None:
        """Notes a batch that was appended at `base_offset`."""
        producer = self._producers.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            producer = self._producers[header.producer_id] = _Producer(header.producer_epoch)
        last = (header.base_sequence + header.last_offset_delta) & _SEQUENCE_MASK
        producer.batches.append(_AppendedBatch(header.base_sequence, last, base_offset))
        self._producers.move_to_end(header.producer_id)
        if len(self._producers) > MAX_PRODUCERS_PER_PARTITION:
            self._producers.popitem(last=False)
