"""Every bound of the embedded broker, in one place.

A development broker shares a laptop with an editor and a browser, and runs for days: so nothing here grows without a
limit. Read by all modules of this package. Where Apache Kafka has a setting for the same thing, its name is given.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# The network.
MAX_CONNECTIONS: Final = 512
MAX_REQUEST_BYTES: Final = 32 * MIB  # socket.request.max.bytes (100 MiB there)
IDLE_TIMEOUT_S: Final = 600.0  # connections.max.idle.ms
WRITE_TIMEOUT_S: Final = 30.0  # a client that reads nothing for so long is cut off
WRITE_BUFFER_BYTES: Final = 1 * MIB  # above it, a connection's next request waits for its reader
STOP_TIMEOUT_S: Final = 5.0

# Topics and their memory.
MAX_TOPICS: Final = 2_000
MAX_PARTITIONS_PER_TOPIC: Final = 512
MAX_PARTITIONS: Final = 10_000
MAX_TOPIC_NAME_CHARS: Final = 249  # Topic.MAX_NAME_LENGTH
MAX_PARTITION_BYTES: Final = 128 * MIB
MAX_TOTAL_BYTES: Final = 1024 * MIB
STORED_BATCH_OVERHEAD_BYTES: Final = 300  # what Python's own objects add to each stored batch, measured and rounded up

# Upkeep: retention and compaction.
UPKEEP_INTERVAL_S: Final = 5.0
UPKEEP_SLICE_S: Final = 0.002  # compaction gives the loop back after so long, so that it never shows in a latency
COMPACTION_MIN_DIRTY_BYTES: Final = 1 * MIB
MAX_EVICTIONS_PER_APPEND: Final = 100_000
MAX_INFLATED_BATCH_BYTES: Final = 64 * MIB

# Fetch.
MAX_FETCH_BYTES: Final = 55 * MIB  # fetch.max.bytes
MAX_FETCH_WAIT_S: Final = 60.0
MAX_FETCH_ROUNDS: Final = 100_000  # wake-ups of one long poll

# Producers.
MAX_PRODUCERS_PER_PARTITION: Final = 1_000
REMEMBERED_BATCHES: Final = 5  # ProducerStateEntry.NUM_BATCHES_TO_RETAIN: what max.in.flight=5 needs

# Groups.
MAX_GROUPS: Final = 2_000
MAX_GROUP_MEMBERS: Final = 250  # group.max.size
MAX_OFFSET_METADATA_BYTES: Final = 4 * KIB  # offset.metadata.max.bytes
MIN_SESSION_TIMEOUT_S: Final = 0.1  # group.min.session.timeout.ms is 6 s there; quick tests want less
MAX_SESSION_TIMEOUT_S: Final = 1800.0  # group.max.session.timeout.ms
MAX_REBALANCE_TIMEOUT_S: Final = 3600.0
PARKED_SLACK_S: Final = 5.0  # a parked join or sync is answered at the latest so long after every timer has fired

# Faults.
MAX_ARMED_FAULTS: Final = 100
MAX_FAULT_DELAY_S: Final = 300.0
