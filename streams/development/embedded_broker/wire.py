"""From bytes to Kafka messages and back, by `kio`.

Called by `connection` for every request. `kio` is generated from Apache Kafka's own message definitions; it has one
dataclass a message **and version**. Handlers must not care about versions, so:

* a request is read with its own version's reader, then lifted to the highest version we serve (`apis.SERVED`), with the
  defaults that Kafka's definitions name for fields the old version lacks;
* a response is always built as the highest version's dataclass; the older version's writer takes from it the fields it
  knows. This holds because in every range we serve the highest version's fields are a superset (a unit test proves it).

Reading is compiled code (2 to 5 us a request). Writing is Python (25 us a Produce, 115 us a Fetch of 8 partitions),
which a broker for development can afford.
"""

import dataclasses
import io
import struct
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import Any, Final, cast, get_args, get_type_hints

from kio.index import load_request_schema, load_response_schema
from kio.schema.leave_group.v5.request import MemberIdentity
from kio.serial import entity_reader, entity_writer
from kio.static.primitive import i32Timedelta
from kio.static.protocol import Entity, RequestPayload, ResponsePayload

from streams.development.embedded_broker.apis import SERVED, ApiKey

_API_AND_VERSION: Final = struct.Struct(">hh")
_CORRELATION_ID: Final = struct.Struct(">i")
_LENGTH: Final = struct.Struct(">i")
_CORRELATION_ID_AT: Final = _API_AND_VERSION.size
_UNSUPPORTED_VERSION_REPLY: Final = 0
_NO_TAGGED_FIELDS: Final = b"\x00"

NOT_THROTTLED: Final = i32Timedelta.parse(timedelta(0))

# What a field means that the version on the wire does not have, where Kafka's definitions leave it implicit.
_ABSENT: Final[Mapping[str, object]] = MappingProxyType(
    {
        "client_software_name": "",
        "client_software_version": "",
        "forgotten_topics_data": (),
        "include_authorized_operations": False,
        "include_cluster_authorized_operations": False,
        "include_topic_authorized_operations": False,
        "isolation_level": 0,
        "members": (),
    }
)


class UnreadableRequestError(Exception):
    """The bytes are no request that this broker serves; the connection has to be closed, as Kafka does."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, lifted to the highest version served."""

    api: ApiKey
    version: int  # the version on the wire, in which the answer has to go back
    correlation_id: int
    client_id: str
    payload: RequestPayload


def decode_request(frame: bytes) -> Request:
    """Reads one frame (without its length).

    An ApiVersions request of a version we do not know comes back as version 0 with the version kept, since KIP-511
    wants an answer in version 0 that names our versions.

    Raises:
        UnreadableRequestError: an API or version that is not served, or bytes that do not parse.
    """
    try:
        key, version = _API_AND_VERSION.unpack_from(frame, 0)
        (correlation_id,) = _CORRELATION_ID.unpack_from(frame, _CORRELATION_ID_AT)
        api = ApiKey(key)
    except (struct.error, ValueError) as error:
        raise UnreadableRequestError(f"no API that is served: {error}") from error
    if version not in SERVED[api]:
        if api is ApiKey.API_VERSIONS:
            return Request(
                api=api, version=version, correlation_id=correlation_id, client_id="", payload=_empty_api_versions()
            )
        raise UnreadableRequestError(f"{api.name} version {version} is not served")
    schema = load_request_schema_cached(api, version)
    try:
        header, header_bytes = entity_reader(schema.__header_schema__)(frame, 0)
        payload, _ = entity_reader(schema)(frame, header_bytes)
    except Exception as error:  # kio's compiled reader raises whatever its parser meets on foreign bytes
        raise UnreadableRequestError(f"{api.name} version {version} does not parse: {error!r}") from error
    client_id = getattr(header, "client_id", None) or ""
    lifted = _lift(api, version)(payload)
    return Request(api=api, version=version, correlation_id=correlation_id, client_id=client_id, payload=lifted)


def encode_response(request: Request, answer: ResponsePayload) -> bytes:
    """The whole response to `request`, length first."""
    version = request.version if request.version in SERVED[request.api] else _UNSUPPORTED_VERSION_REPLY
    flexible, write = _response_writer(request.api, version)
    buffer = io.BytesIO()
    buffer.write(_LENGTH.pack(0) + _CORRELATION_ID.pack(request.correlation_id))
    if flexible:
        buffer.write(_NO_TAGGED_FIELDS)
    write(buffer, answer)
    _LENGTH.pack_into(buffer.getbuffer(), 0, buffer.tell() - _LENGTH.size)
    return buffer.getvalue()


@cache
def load_request_schema_cached(api: ApiKey, version: int) -> type[RequestPayload]:
    """`kio`'s dataclass of that request; loading one means an import, hence the cache."""
    return load_request_schema(api, version)


@cache
def _response_writer(api: ApiKey, version: int) -> tuple[bool, Callable[[io.BytesIO, Entity], None]]:
    schema = load_response_schema(api, version)
    return bool(schema.__header_schema__.__flexible__), cast(
        "Callable[[io.BytesIO, Entity], None]", entity_writer(schema)
    )


def _empty_api_versions() -> RequestPayload:
    schema = cast("Any", load_request_schema_cached(ApiKey.API_VERSIONS, SERVED[ApiKey.API_VERSIONS].highest))
    return cast("RequestPayload", schema(client_software_name="", client_software_version=""))


@cache
def _lift(api: ApiKey, version: int) -> Callable[[RequestPayload], RequestPayload]:
    """A function from that version's request to the highest version's."""
    highest = load_request_schema_cached(api, SERVED[api].highest)
    lift = cast(
        "Callable[[RequestPayload], RequestPayload]", _lift_entity(load_request_schema_cached(api, version), highest)
    )
    changed = _CHANGED_MEANINGS.get(api)
    if changed is None:
        return lift

    def lift_and_translate(payload: RequestPayload) -> RequestPayload:
        return changed(version, payload, lift(payload))

    return lift_and_translate


def _lift_entity(old: type[Any], new: type[Any]) -> Callable[[Any], Any]:
    if old is new:
        return lambda entity: entity
    present = {field.name for field in dataclasses.fields(old)}
    old_hints, new_hints = get_type_hints(old), get_type_hints(new)
    copied: list[tuple[str, Callable[[Any], Any] | None]] = []
    absent: dict[str, object] = {}
    for field in dataclasses.fields(new):
        if field.name not in present:
            absent[field.name] = _ABSENT[field.name] if field.default is dataclasses.MISSING else field.default
            continue
        old_item, new_item = _item_entity(old_hints[field.name]), _item_entity(new_hints[field.name])
        lift_item = None if old_item is None or new_item is None else _lift_entity(old_item, new_item)
        copied.append((field.name, lift_item))

    def lift(entity: Any) -> Any:
        values = dict(absent)
        for name, lift_item in copied:
            value = getattr(entity, name)
            values[name] = value if lift_item is None or value is None else tuple(map(lift_item, value))
        return new(**values)

    return lift


def _item_entity(hint: object) -> type[Any] | None:
    """The entity inside `tuple[Entity, ...] | None`, if the hint is one."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    return next((found for arg in get_args(hint) if (found := _item_entity(arg)) is not None), None)


def _translate_metadata(version: int, old: RequestPayload, lifted: RequestPayload) -> RequestPayload:
    """Version 0 says "all topics" by an empty list; later versions by null."""
    if version == 0 and not getattr(old, "topics", ()):
        return cast("RequestPayload", dataclasses.replace(cast("Any", lifted), topics=None))
    return lifted


def _translate_leave_group(_version: int, old: RequestPayload, lifted: RequestPayload) -> RequestPayload:
    """Up to version 2 one member leaves, named at the top; later versions carry a list."""
    member_id: str | None = getattr(old, "member_id", None)
    if member_id is None:
        return lifted
    members = (MemberIdentity(member_id=member_id),)
    return cast("RequestPayload", dataclasses.replace(cast("Any", lifted), members=members))


_CHANGED_MEANINGS: Final[Mapping[ApiKey, Callable[[int, RequestPayload, RequestPayload], RequestPayload]]] = (
    MappingProxyType({ApiKey.METADATA: _translate_metadata, ApiKey.LEAVE_GROUP: _translate_leave_group})
)
