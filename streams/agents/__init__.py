"""Thin Faust shells around the pure domain, one a topic family; they talk through topics and import none of each other.

Each agent is a synchronous function from one record to a `Step` (rows to persist, messages to send), which the
pipelined shell of `streams.kafka` carries out: persist, then speak, then commit.
"""
