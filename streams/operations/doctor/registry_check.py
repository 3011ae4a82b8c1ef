"""Does the schema registry answer, and does it know our schemas? Called by `examination`."""

from collections.abc import Iterator

from streams.operations.doctor.findings import Finding, Subject, ok
from streams.settings import RegistrySettings


def examine(settings: RegistrySettings) -> Iterator[Finding]:
    """Yield what is wrong with the registry; one `ok` when nothing is, or when none is configured."""
    if settings.url is None:
        yield ok(Subject.REGISTRY, "none configured: schema ids come from the packaged lock file")
