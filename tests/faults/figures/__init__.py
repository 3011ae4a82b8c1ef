"""The measured scenarios: one bad day each, one figure each, by `python -m tests.faults.figures NAME`.

Each scenario is a module with `measure(stage, options, report)`: it works on an engine that runs already (a `Stage`),
so that the command line and the quick tests of `tests/faults/test_figures.py` measure with the same code.
"""
