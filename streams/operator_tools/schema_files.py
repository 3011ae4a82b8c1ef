"""The packaged schemas: unchanged since their release, fit for the last release, and known to the registry.

Called by `streams.cli.schemas`, `streams.cli.tools` and the doctor. Calls `schemas.compatibility` and
`schemas.schema_registry`, and says their failures in an operator's words.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from schemas.baseline import Kept, breaches, last_release
from schemas.compatibility import check_all
from schemas.misconfigured import MisconfiguredError
from schemas.schema_ids import PackagedSchema, SchemaIds, packaged_schemas
from streams.operator_tools.errors import RefusedError, UnreachableError
from streams.settings import RegistrySettings

if TYPE_CHECKING:
    from schemas.schema_registry import RegistryClient

ASK_AGAIN_S: Final = 1.0
"""Between two looks at a registry that does not answer."""


class NotRegisteredError(MisconfiguredError):
    """The registry does not know a schema that this program writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFault:
    """Why a schema must not be released, or should not have been changed."""

    record: str
    version: int
    problem: str


def faults(
    schemas: Sequence[PackagedSchema] | None = None, *, kept: Mapping[str, Kept] | None = None
) -> tuple[SchemaFault, ...]:
    """Return what is wrong with the packaged schemas; nothing: unchanged, and fit for the last release.

    Args:
        schemas: these instead of the packaged ones.
        kept: what the last release has, when it is not the snapshot's.
    """
    chosen = packaged_schemas() if schemas is None else schemas
    before = kept if kept is not None else last_release() if schemas is None else {}
    return (*_changed(chosen), *_incompatible(chosen), *_breaking(chosen, before))


def _breaking(schemas: Sequence[PackagedSchema], kept: Mapping[str, Kept]) -> Iterator[SchemaFault]:
    for breach in breaches(schemas, kept):
        yield SchemaFault(record=breach.record, version=breach.version, problem=breach.problem)


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
        MisconfiguredError: The registry's address, user, token or certificates are wrong.
        UnreachableError: The registry does not answer.
    """
    if settings.url is None:
        raise RefusedError("no registry is configured: set PAYMENT_ENGINE_REGISTRY_URL")
    found = faults()
    if found:
        raise RefusedError(f"{found[0].record} v{found[0].version}: {found[0].problem}; see `schemas check`")
    from schemas import schema_registry

    with _translated():
        return schema_registry.register(_connected(settings, settings.url), packaged_schemas())


def ids_of(settings: RegistrySettings) -> SchemaIds:
    """Return the schema ids: of the registry when one is configured, else of the packaged lock file.

    Raises:
        NotRegisteredError: A schema that this program writes is not registered.
        MisconfiguredError: The registry's address, user, token or certificates are wrong.
        UnreachableError: The registry does not answer.
    """
    if settings.url is None:
        return SchemaIds.packaged()
    from schemas import schema_registry

    with _translated():
        return schema_registry.look_up(_connected(settings, settings.url))


def wait_for_ids(settings: RegistrySettings, *, say: Callable[[str], None]) -> SchemaIds:
    """Return the schema ids once the registry answers, after `settings.start_wait_s` and one look at most.

    For a program that starts: one that ended because its registry is gone would be started again while that is so.

    Args:
        settings: the registry, and how long to wait.
        say: told what is wrong once, when the first look found it.

    Raises:
        MisconfiguredError: as `ids_of`, at once.
        UnreachableError: it did not answer, with what was wrong at last.
    """
    give_up_s = time.monotonic() + settings.start_wait_s
    is_told = False
    while True:
        try:
            return ids_of(settings)
        except UnreachableError as error:
            if time.monotonic() + ASK_AGAIN_S > give_up_s:
                raise
            if not is_told:
                say(f"{error}; asking again for {settings.start_wait_s:g} s")
                is_told = True
        time.sleep(ASK_AGAIN_S)


def _connected(settings: RegistrySettings, url: str) -> "RegistryClient":
    from schemas import schema_registry

    credentials = schema_registry.Credentials(
        user=settings.user, password=_plain(settings.password), token=_plain(settings.token)
    )
    ca_file = None if settings.ssl_cafile is None else str(settings.ssl_cafile)
    return schema_registry.connect(url, timeout_s=settings.timeout_s, credentials=credentials, ca_file=ca_file)


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


@contextmanager
def _translated() -> Iterator[None]:
    from schemas.schema_registry import (
        AccessRefusedError,
        IncompatibleError,
        NotARegistryError,
        RegistryError,
        SchemaNotRegisteredError,
    )

    try:
        yield
    except SchemaNotRegisteredError as error:
        raise NotRegisteredError(f"{error}; `payment-engine schemas register` registers it") from error
    except AccessRefusedError as error:
        mended = "PAYMENT_ENGINE_REGISTRY_USER and _PASSWORD, or PAYMENT_ENGINE_REGISTRY_TOKEN"
        raise MisconfiguredError(f"{mended}: the schema registry refuses them ({error})") from error
    except NotARegistryError as error:
        raise MisconfiguredError(f"PAYMENT_ENGINE_REGISTRY_URL: {error}; look at its path") from error
    except IncompatibleError as error:
        raise RefusedError(f"the schema registry refuses a schema: {error}") from error
    except RegistryError as error:
        raise UnreachableError(f"the schema registry: {error}") from error
