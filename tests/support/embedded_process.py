"""The embedded broker as a process of its own, as `make run` starts it.

For tests whose clients block (confluent-kafka) or die (kill -9): the broker must not live on the test's own event loop.
"""

import contextlib
import selectors
import subprocess
import sys
from collections.abc import Iterator

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0


@contextlib.contextmanager
def embedded_broker_process(*arguments: str) -> Iterator[str]:
    """Yields the bootstrap address, and ends the process afterwards.

    Raises:
        TimeoutError: no READY line in time.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "broker", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield f"127.0.0.1:{_port_when_ready(process)}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait(STOP_TIMEOUT_S)
            if process.stdout is not None:
                process.stdout.close()


def _port_when_ready(process: "subprocess.Popen[str]") -> int:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(START_TIMEOUT_S):
            raise TimeoutError(f"the embedded broker was not ready within {START_TIMEOUT_S} s")
    line = process.stdout.readline()
    assert line.startswith("READY broker "), f"instead of READY: {line!r}"
    return int(line.split()[-1])
