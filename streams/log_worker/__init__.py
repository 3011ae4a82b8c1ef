"""An at-least-once consumer of a group: a user brings a handler and options, the room does the rest.

Users: `streams.executor` today; bridges, read stores and outgoing webhooks as they are built. Calls `kafka_clients`.

```
RecordHandler (yours)      handle(record, delivery): raises what is to be done about the record (`errors`)
LogWorker                  `worker`: start, run, request_stop, stop; intake, rebalances, failures
├── Room                     `room`: how much may be under way, in records and bytes; closed under back-pressure
├── OwnedPartition           `owned_partitions`: what is under way in one partition of one assignment
│   ├── HandOver               `hand_over`: what is left under way to the next owner (pure)
│   └── PartitionOffsets       `offsets`: which offset may be committed (pure)
├── Attempts                 `attempts`: one record, until it is handled or its dead letter is on the log
│   └── PatientWriter          `appending`: appends until the log has acknowledged, for so long
└── Committer                `committer`: commits what is done, a moment after it is done
```

The field's words, as arroyo has them, for one partition of a group:

* *committed offset*: what the group's coordinator keeps. Whoever takes the partition over begins there.
* *staged offset*: may be committed and is not yet. No record below it is unfinished.
* *working offset*: after the last record taken. Between staged and working lies what a crash repeats.

What the room promises, and `tests/contract/test_log_worker_contract.py` shows on memory and on Apache Kafka:

* Nothing is committed past an unfinished record. A crash repeats at most what was taken and not committed.
* A revoke begins nothing more, drains (bounded) or hands over, commits, lets go. A member that was frozen begins
  nothing before the group has said that the partition is still its own.
* `Ordering.BY_KEY`: the records of one key are handled one after another, in the log's order; other keys flow.
* Memory is bounded: in records, and in bytes where asked for.
* A record that can never be taken becomes a dead letter, and its neighbours flow on. When the letter cannot be written,
  nothing of its partition is passed: the worker ends, and whoever takes over begins at that record.
"""
