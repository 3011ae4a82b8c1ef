"""Child processes that cannot outlive whoever started them.

For: the broker processes of `tests.kafka_cluster` and the worker processes of the fault tests and of the benchmark.
Calls: `subprocess`, and on Linux `prctl(PR_SET_PDEATHSIG)`, because a pytest killed with SIGKILL runs no `atexit` and
would leave a JVM behind. Elsewhere `atexit` is the only net.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
"""`man 2 prctl`: the signal this process gets when the thread that forked it ends."""

STOP_TIMEOUT_S = 20.0
"""How long a process may take over SIGTERM before it is killed."""

KILL_TIMEOUT_S = 10.0
"""How long the kernel may take to reap a killed process."""

_libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


class ChildProcess:
    """One process in its own session, so that its whole group can be signalled by its id.

    Start it from a thread that lives as long as the process should (the main thread, as a rule): on Linux the parent's
    death is noticed thread by thread.
    """

    def __init__(
        self, argv: Sequence[str], *, log_path: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ):
        self._argv = list(argv)
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its standard output and error are appended to `log_path`.

        Raises:
            RuntimeError: it runs already.
        """
        if self.is_running():
            raise RuntimeError(f"{self._argv[0]} runs already with pid {self.pid}")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509 -- it calls nothing but prctl and getppid
            )
        atexit.register(self.kill)

    @property
    def pid(self) -> int:
        """The id of the started process.

        Raises:
            RuntimeError: it was never started.
        """
        if self._process is None:
            raise RuntimeError("the process was never started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs or before it is started; negative when a signal ended it."""
        return None if self._process is None else self._process.poll()

    def is_running(self) -> bool:
        """True from `start` until the process has ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process group; nothing happens when it has ended."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Safe to call twice."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(KILL_TIMEOUT_S)
        atexit.unregister(self.kill)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int | None:
        """SIGTERM, then SIGKILL after `timeout_s`; returns the exit code. Safe to call twice."""
        self.signal(signal.SIGCONT)  # a stopped process would not see the SIGTERM
        self.signal(signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
        self.kill()
        return self.exit_code

    def log_tail(self, lines: int = 40) -> str:
        """The last lines it wrote, for the message of a failure."""
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])


def _die_with_parent(parent_pid: int) -> Callable[[], None] | None:
    """What runs between fork and exec; None where the platform has no such thing."""
    libc = _libc
    if libc is None:
        return None

    def ask_for_sigkill() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # the parent died before the call above
            os.kill(os.getpid(), signal.SIGKILL)

    return ask_for_sigkill
