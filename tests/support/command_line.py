"""Runs the command line inside the test's process, and leaves logging as it was: a command sets it up for itself."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import structlog
from typer.testing import CliRunner, Result

from streams.cli.application import build


def run_command(*words: str, environment: Mapping[str, str] | None = None, typed: str | None = None) -> Result:
    """What `payment-engine words` does; `typed` is its standard input."""
    with _logging_restored():
        return CliRunner().invoke(build(), list(words), env=dict(environment or {}), input=typed)


def json_of(result: Result) -> Any:
    """The JSON that a command printed; fails with what it said when it did not end well."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@contextlib.contextmanager
def _logging_restored() -> Iterator[None]:
    # The runner's standard error is closed after the command; a handler that keeps it would break the next test.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)
        for room in ("streams", "http_ingress", "gateway_adapters", "schemas"):
            logging.getLogger(room).setLevel(logging.NOTSET)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
