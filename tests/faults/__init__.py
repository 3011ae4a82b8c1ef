"""Bad days on one machine: a seeded workload, a nemesis, a recorder and a checker, on the engine and three brokers.

`make faults` is the long run; `tests/faults/test_faults.py` the short one of every build. What is checked, and which
faults there are: docs/verification.md.
"""
