"""What an operator does to a running engine, without a terminal: dead letters, timelines, policies, the doctor.

Called by `streams.cli` alone. Everything works through the two small ports of `log`, so that a test runs it on lists
in memory and the command line on Kafka; nothing here prints, reads the environment or ends the process.
"""
