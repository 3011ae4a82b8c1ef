"""The packaged schemas: unchanged since their release, compatible both ways, and known to the registry.

Called by `streams.cli.schemas`, `streams.cli.tools` and the doctor. Calls `schemas.compatibility` and
`schemas.schema_registry`, and says their failures in an operator's words.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from schemas.compatibility import check_all
from schemas.schema_ids import PackagedSchema, SchemaIds, packaged_schemas
from streams.operator_tools.errors import RefusedError, UnreachableError
from streams.settings import RegistrySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFault:
    """Why a schema must not be released, or should not have been changed."""

    record: str
    version: int
    problem: str


def faults(schemas: Sequence[PackagedSchema] | None = None) -> tuple[SchemaFault, ...]:
    """Return what is wrong with the packaged schemas (or these): nothing means FULL_TRANSITIVE and unchanged."""
    chosen = packaged_schemas() if schemas is None else schemas
    return (*_changed(chosen), *_incompatible(chosen))


def _changed(schemas: Sequence[PackagedSchema]) -> Iterator[SchemaFault]:
    for schema in schemas:
        if schema.released and hashlib.sha256(schema.text.encode()).hexdigest() != schema.sha256:
            problem = "the file was changed after its release: undo it, and write a new version beside it"
            yield SchemaFault(record=schema.record, version=schema.version, problem=problem)


def _incompatible(schemas: Sequence[PackagedSchema]) -> Iterator[SchemaFault]:
    for found in check_all(schemas):
        problem = f"cannot read what version {found.writer_version} wrote: {found.problem}"
        yield SchemaFault(record=found.record, version=found.reader_version, problem=problem)


def register(settings: RegistrySettings) -> Mapping[str, int]:
    """Register every packaged schema and return subject -> id. Doing it twice changes nothing.

    Raises:
        RefusedError: No registry is configured, a schema is at fault, or the registry finds it incompatible.
        UnreachableError: The registry does not answer.
    """
    found = faults()
    if found:
        raise RefusedError(f"{found[0].record} v{found[0].version}: {found[0].problem}; see `schemas check`")
    from schemas import schema_registry

    with _translated():
        client = schema_registry.connect(_url_of(settings), timeout_s=settings.timeout_s)
        return schema_registry.register(client, packaged_schemas())


def ids_of(settings: RegistrySettings) -> SchemaIds:
    """Return the schema ids: of the registry when one is configured, else of the packaged lock file.

    Raises:
        RefusedError: A schema that this program writes is not registered.
        UnreachableError: The registry does not answer.
    """
    if settings.url is None:
        return SchemaIds.packaged()
    from schemas import schema_registry

    with _translated():
        return schema_registry.look_up(schema_registry.connect(settings.url, timeout_s=settings.timeout_s))


def _url_of(settings: RegistrySettings) -> str:
    if settings.url is None:
        raise RefusedError("no registry is configured: set PAYMENT_ENGINE_REGISTRY_URL")
    return settings.url


@contextmanager
def _translated() -> Iterator[None]:
    from schemas.schema_registry import RegistryError, SchemaNotRegisteredError

    try:
        yield
    except SchemaNotRegisteredError as error:
        raise RefusedError(f"{error}; `payment-engine schemas register` registers it") from error
    except RegistryError as error:
        raise UnreachableError(f"the schema registry: {error}") from error
