"""Does the schema registry answer, does it know our schemas, and do its ids clash with the lock file's?

Called by `examination`; calls `operations.schema_files`. The log may hold messages from before the registry was
configured, under the lock file's ids: an id that the registry gives to another record makes them unreadable.
"""

from collections.abc import Iterator, Sequence

from schemas.misconfigured import MisconfiguredError
from schemas.schema_ids import PackagedSchema, SchemaIds, packaged_schemas
from streams.operator_tools.doctor.findings import Finding, Subject, failure, ok, warning
from streams.operator_tools.errors import UnreachableError
from streams.operator_tools.schema_files import NotRegisteredError, faults, ids_of
from streams.settings import RegistrySettings

MAX_NAMED = 5


def examine(settings: RegistrySettings) -> Iterator[Finding]:
    """Yield what is wrong with the schemas and the registry."""
    for fault in faults():
        yield failure(
            Subject.REGISTRY,
            f"schema {fault.record} v{fault.version}: {fault.problem}",
            why="Old records on the log, or other programs, cannot be read.",
            fix="Install the released package again; see `payment-engine schemas check`.",
        )
    if settings.url is None:
        yield ok(Subject.REGISTRY, "none configured: schema ids come from the packaged lock file")
        return
    try:
        yield from judge_ids(ids_of(settings), packaged_schemas())
    except NotRegisteredError as error:
        yield failure(
            Subject.REGISTRY,
            str(error),
            why="A program that writes it does not start.",
            fix="Run `payment-engine schemas register`.",
        )
    except MisconfiguredError as error:
        yield failure(
            Subject.REGISTRY, str(error), why="No program starts while that is so.", fix="Correct what it names."
        )
    except UnreachableError as error:
        yield failure(
            Subject.REGISTRY,
            str(error),
            why="Programs ask it for schema ids at their start, and do not start without.",
            fix="Start the registry, or correct PAYMENT_ENGINE_REGISTRY_URL; without that variable none is needed.",
        )


def judge_ids(ids: SchemaIds, packaged: Sequence[PackagedSchema]) -> Iterator[Finding]:
    """Yield whether the registry's ids leave the lock file's readable."""
    clashes = [
        f"{schema.schema_id} ({schema.record})"
        for schema in packaged
        if (writer := ids.writer(schema.schema_id)) is not None and writer.record != schema.record
    ]
    if clashes:
        yield warning(
            Subject.REGISTRY,
            f"{len(clashes)} ids mean another record in the lock file: {', '.join(clashes[:MAX_NAMED])}",
            why="What was written before the registry was configured is read wrongly.",
            fix="Configure the registry before the first payment, or start it at ids above the lock file's.",
        )
    else:
        yield ok(Subject.REGISTRY, f"it answers and knows all {len({each.record for each in packaged})} schemas")
