"""Apache Kafka's own jars, fetched once into the checkout.

Called by: `tests.kafka_cluster.cluster`. Calls: `java`, and `mvn dependency:copy-dependencies` on the pom beside this
module. The jars land in `.kafka/` (ignored by git), named after the pom's digest, so a changed version is fetched anew.
"""

import contextlib
import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

MAVEN_TIMEOUT_S = 240.0
"""A cold Maven repository took 24 s here; a slow line may take longer."""

_POM = Path(__file__).with_name("pom.xml")
_CACHE = Path(__file__).parents[2] / ".kafka"


class KafkaUnavailableError(Exception):
    """No Apache Kafka can be had on this machine; the message says what is missing."""


def find_java() -> str:
    """Returns the path of `java`.

    Raises:
        KafkaUnavailableError: there is none on the PATH.
    """
    java = shutil.which("java")
    if java is None:
        raise KafkaUnavailableError("no `java` on the PATH (Java 17 or newer runs the broker's own jars)")
    return java


def fetch_jars() -> Path:
    """Returns the folder that holds the broker's jars, fetched if it is not there yet.

    Safe to call from several processes at once: one fetches, the others wait.

    Raises:
        KafkaUnavailableError: Maven is missing, or could not get them.
    """
    digest = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    jars = _CACHE / f"jars-{digest}"
    if jars.is_dir():
        return jars
    with _exclusive(_CACHE):
        if not jars.is_dir():
            _copy_dependencies(jars)
    return jars


def _copy_dependencies(jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailableError("no `mvn` on the PATH to fetch Apache Kafka's jars with")
    with tempfile.TemporaryDirectory(dir=_CACHE) as scratch:
        target = Path(scratch) / "lib"
        argv = [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={target}"]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=MAVEN_TIMEOUT_S, check=False, cwd=scratch
            )
        except subprocess.TimeoutExpired as late:
            raise KafkaUnavailableError(f"mvn did not end within {MAVEN_TIMEOUT_S:.0f} s") from late
        if done.returncode != 0:
            raise KafkaUnavailableError(f"mvn could not fetch Apache Kafka: {done.stdout[-600:]}{done.stderr[-200:]}")
        target.rename(jars)


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """A lock between processes; the kernel drops it when its holder dies."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
