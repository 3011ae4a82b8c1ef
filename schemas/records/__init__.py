"""The records on the log, one module a family. Each class is the Python side of one file in `schemas/avro/`.

Field names, order and types are held against the Avro files by a test. Times are milliseconds since the epoch (UTC),
amounts are integers of minor units.
"""
