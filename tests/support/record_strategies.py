"""Hypothesis strategies for everything that stands on the log: any record, valid commands, envelopes that agree.

Used by the property tests of every room. `records(cls)` follows the class's declared types and nothing else, so it also
makes records that break the domain's rules; `commands()` makes only those that `schemas.commands_validation` takes.
"""

import typing
from typing import Any, TypeVar, cast

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas import identifiers
from schemas.avro_binary import MAX_LONG, MIN_LONG
from schemas.card_disguises import hides_card_number
from schemas.cloud_event import MAX_INTEGER, Envelope
from schemas.event_types import EVENT_TYPES, TYPES
from schemas.money import MAX_AMOUNT_MINOR, exponents
from schemas.record_shapes import FieldShape, Record, fields_of
from schemas.records.commands import (
    BrowserFacts,
    CaptureRequested,
    Command,
    CompletionRequested,
    NamedText,
    Payer,
    PaymentRequested,
    PaymentToken,
    RefundRequested,
    VoidRequested,
)

T = TypeVar("T")

MAX_ITEMS = 2
MIN_TIME_MS = -62_135_596_800_000  # 0001-01-01T00:00:00Z
MAX_TIME_MS = 253_402_300_799_999  # 9999-12-31T23:59:59.999Z

texts = st.text(st.characters(codec="utf-8"), max_size=20)
longs = st.integers(MIN_LONG, MAX_LONG) | st.integers(-1, 200)
visible = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E, blacklist_characters="|"), min_size=1, max_size=40
)
attribute_texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=40)
times_ms = st.integers(MIN_TIME_MS, MAX_TIME_MS)
amounts_minor = st.integers(1, MAX_AMOUNT_MINOR)
currencies = st.sampled_from(sorted(exponents()))


def _item(shape: FieldShape) -> SearchStrategy[object]:
    if shape.nested is not None:
        return records(shape.nested)
    if shape.symbols is not None:
        return st.sampled_from(list(shape.symbols))
    scalars: dict[str, SearchStrategy[Any]] = {
        "string": texts,
        "long": longs,
        "boolean": st.booleans(),
        "bytes": st.binary(max_size=20),
    }
    return scalars[str(shape.scalar)]


def _field(shape: FieldShape) -> SearchStrategy[object]:
    if shape.repeated:
        return st.lists(_item(shape), max_size=MAX_ITEMS).map(tuple)
    return st.none() | _item(shape) if shape.nullable else _item(shape)


_MADE: dict[type, SearchStrategy[Any]] = {}


def records(cls: type[T]) -> SearchStrategy[T]:
    """Any record of the class that its declared types allow."""
    if cls not in _MADE:  # made once: putting together the strategy of an order row takes milliseconds
        fields: dict[str, SearchStrategy[Any]] = {shape.name: _field(shape) for shape in fields_of(cls)}
        _MADE[cls] = st.builds(cls, **fields)
    return cast("SearchStrategy[T]", _MADE[cls])


_free_of_cards = visible.filter(lambda text: not hides_card_number(text))
_payment_tokens = st.builds(
    PaymentToken,
    gateway=st.sampled_from(["mock", "other", "other/eu"]).map(identifiers.GatewayName),
    kind=st.sampled_from(["stored", "vault"]),
    value=_free_of_cards,
    payer_reference=st.none() | _free_of_cards,
)
_payment_methods: SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"token": _free_of_cards}),
    st.fixed_dictionaries(
        {
            "token": st.none(),
            "tokens": st.lists(_payment_tokens, min_size=1, max_size=3, unique_by=lambda each: each.gateway).map(tuple),
        }
    ),
)
_browsers = st.builds(
    BrowserFacts,
    user_agent=st.none() | _free_of_cards,
    java_enabled=st.none() | st.booleans(),
    screen_width_px=st.none() | st.integers(0, 10_000),
    time_zone_offset_min=st.none() | st.integers(-840, 840),
)
_payers = st.builds(
    Payer,
    email=st.none() | st.just("anna@example.com"),
    reference=st.none() | _free_of_cards,
    ip=st.none() | st.sampled_from(["203.0.113.9", "2001:db8::1"]),
    browser=st.none() | _browsers,
)
_maps = st.lists(
    st.builds(NamedText, name=st.sampled_from(["cart", "campaign"]), value=_free_of_cards),
    max_size=2,
    unique_by=lambda each: each.name,
).map(tuple)
_besides: SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "allow_partial": st.booleans(),
        "merchant_initiated": st.booleans(),
        "return_url": st.none() | st.just("https://shop.example/back?cart=17"),
        "payer": st.none() | _payers,
        "statement_descriptor": st.none() | st.just("SHOP 17"),
        "metadata": _maps,
    },
)
"""What most payments do not say."""


@st.composite
def commands(draw: st.DrawFn) -> Command:
    """A command that keeps every rule of a command's values."""
    cls = draw(st.sampled_from(typing.get_args(Command)))
    order = identifiers.order_id(draw(visible))
    fields: dict[str, Any] = {
        "origin_id": identifiers.origin_id(draw(visible)),
        "order_id": order,
        "idempotency_key": identifiers.idempotency_key(draw(visible)),
    }
    if cls is PaymentRequested:
        fields |= {"amount_minor": draw(amounts_minor), "currency": draw(currencies), "capture": draw(st.booleans())}
        return PaymentRequested(**fields, **draw(_payment_methods), **draw(_besides))
    fields["payment_id"] = identifiers.payment_id(order, identifiers.OpId(draw(visible)))
    if cls is VoidRequested:
        return VoidRequested(**fields)
    if cls is CompletionRequested:
        return CompletionRequested(**fields, parameters=draw(_maps))
    fields |= {"amount_minor": draw(st.none() | amounts_minor), "currency": draw(st.none() | currencies)}
    if cls is CaptureRequested:
        return CaptureRequested(**fields, final=draw(st.booleans()))
    return RefundRequested(**fields)


@st.composite
def envelopes(draw: st.DrawFn, record: Record) -> Envelope:
    """An envelope that may stand around the record: its type is right and it contradicts nothing."""
    trace = st.from_regex(r"00-[1-9a-f]{32}-[1-9a-f]{16}-0[01]", fullmatch=True)
    traceparent = draw(st.none() | trace)
    return Envelope(
        id=draw(visible),
        source=draw(attribute_texts),
        type=draw(st.sampled_from(sorted(EVENT_TYPES))) if type(record) not in TYPES else TYPES[type(record)],
        time_ms=draw(st.none() | times_ms),
        subject=draw(st.none() | attribute_texts),
        partitionkey=draw(_repeated(record, "order_id")),
        originid=draw(_repeated(record, "origin_id")),
        idempotencykey=draw(_repeated(record, "idempotency_key")),
        sequence=draw(st.none() | st.integers(0, MAX_INTEGER)),
        traceparent=traceparent,
        tracestate=None if traceparent is None else draw(st.none() | attribute_texts),
        replypartition=draw(st.none() | st.integers(0, MAX_INTEGER)),
        replyfinal=draw(st.none() | st.integers(0, 1)),
        expiry_ms=draw(st.none() | times_ms),
    )


def _repeated(record: Record, field: str) -> SearchStrategy[str | None]:
    said = getattr(record, field, None)
    if isinstance(said, str) and said and said.isascii() and said.isprintable():
        return st.sampled_from([None, said])
    return st.none()


def messages(cls: type[Record]) -> SearchStrategy[tuple[Record, Envelope]]:
    """A record of the class, with an envelope around it."""
    return cast(
        "SearchStrategy[tuple[Record, Envelope]]",
        records(cls).flatmap(lambda record: st.tuples(st.just(record), envelopes(record))),
    )
