"""What a timeline may show of each record: something of every kind that has a place on one, and never a token."""

import dataclasses
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest

from schemas.record_shapes import RECORD_CLASSES, Record, fields_of
from schemas.records.claims import ClaimDecided, ClaimExpiryRequested
from schemas.records.commands import (
    BrowserFacts,
    CaptureRequested,
    CompletionRequested,
    PaymentRequested,
    RefundRequested,
    VoidRequested,
)
from schemas.records.dead_letters import DeadLetter
from schemas.records.decisions import DecisionMade, DecisionProposed, DecisionTried, PaymentWaiting
from schemas.records.gateway import CallDetails, GatewayCallCompleted, GatewayCallRequested, WebhookReceived
from schemas.records.payments import OperationReplied, PaymentEvent, PaymentQueried
from schemas.records.policies import OriginPolicy
from schemas.records.references import ReferenceDropped, ReferenceKept
from schemas.records.timers import OrderExpiryRequested, TimerFired
from schemas.records.upgrades import UpgradeFinished
from streams.operator_tools.facts import REDACTED, shown
from tests.support.golden_messages import example

HIDDEN = (
    OperationReplied,
    PaymentQueried,
    OriginPolicy,
    DecisionTried,
    PaymentWaiting,
    ReferenceKept,  # in another partition than its order's; the result says the reference
    ReferenceDropped,
    OrderExpiryRequested,  # about many orders, when nothing is left to look at
    ClaimExpiryRequested,
    UpgradeFinished,  # about no payment
)


@pytest.mark.parametrize("cls", [each for each in RECORD_CLASSES if each not in HIDDEN])
def test_record_is_shown_with_facts_and_without_token_when_it_has_a_place(cls: type[Record]) -> None:
    record = example(cls)
    found = shown(record)
    assert found is not None
    assert found.facts
    token = getattr(record, "token", None)
    assert token is None or token not in str(found)


@pytest.mark.parametrize("cls", HIDDEN)
def test_record_is_not_shown_when_it_has_no_place_on_a_timeline(cls: type[Record]) -> None:
    assert shown(example(cls)) is None


@pytest.mark.parametrize("cls", [PaymentRequested, GatewayCallRequested])
def test_token_is_said_to_be_there_when_it_is_redacted(cls: type[Record]) -> None:
    found = shown(example(cls))
    assert found is not None
    assert ("token", REDACTED) in found.facts


def test_token_is_masked_when_a_gateways_message_repeats_it() -> None:
    result = example(GatewayCallCompleted)
    assert result.error is not None
    told = dataclasses.replace(result.error, message="no such token tok_visa_4242 for 4111 1111 1111 1111")
    facts = str(shown(dataclasses.replace(result, error=told)))
    assert "tok_visa_4242" not in facts
    assert "4111 1111" not in facts


def test_body_of_a_webhook_is_not_shown_when_it_is_listed() -> None:
    notice = dataclasses.replace(example(WebhookReceived), body=b"secret body")
    assert "secret body" not in str(shown(notice))


def test_facts_leave_out_what_is_absent_when_a_record_has_no_value_for_it() -> None:
    refund = dataclasses.replace(example(RefundRequested), amount_minor=None, currency=None)
    event = dataclasses.replace(example(PaymentEvent), payment=None)
    result = dataclasses.replace(example(GatewayCallCompleted), error=None)
    call = dataclasses.replace(example(GatewayCallRequested), token=None)
    for record, absent in ((refund, "amount_minor"), (event, "status"), (result, "error"), (call, "token")):
        found = shown(record)
        assert found is not None
        assert absent not in dict(found.facts)


def test_void_is_shown_without_an_amount_when_it_was_asked_for() -> None:
    found = shown(example(VoidRequested))
    assert found is not None
    assert dict(found.facts)["asks"] == "void"


def paths_of(cls: type, path: str = "") -> Iterator[str]:
    """The paths of all fields of a record that hold no record themselves."""
    for shape in fields_of(cls):
        if shape.nested is not None:
            yield from paths_of(shape.nested, f"{path}{shape.name}.")
        else:
            yield path + shape.name


ADDRESS = {"origin_id", "order_id", "op_id", "operation.op_id"}
"""What the timeline's own head says, as it does the time; so no fact need repeat it."""

NOT_SHOWN: dict[type[Record], set[str]] = {
    # Not even shortened: whoever holds a token can charge it at some gateways.
    PaymentRequested: {
        *("token", "tokens.kind", "tokens.value", "tokens.payer_reference", "return_url", "statement_descriptor"),
        *(f"payer.{each}" for each in ("email", "reference", "ip", "country")),
        *(f"payer.browser.{shape.name}" for shape in fields_of(BrowserFacts)),
        *("metadata.name", "metadata.value"),
    },
    CaptureRequested: {"payment_id"},
    VoidRequested: {"payment_id"},
    CompletionRequested: {"payment_id", "parameters.name", "parameters.value"},
    RefundRequested: {"payment_id"},
    # The claim before it says so.
    ClaimDecided: {"plan.refusal", "plan.action_life_ms", "plan.fallback_classes"},
    GatewayCallRequested: {
        "opening_op_id",  # of the payment, whose own operation stands on the timeline
        "opening_kind",  # the same
        *(
            "token",
            "payment_id",
            "payment_reference",
            "order_reference",
            "capture_reference",
            "own_reference",
            "final",
            "repeated",
            "command_offset",
        ),
        *(f"details.{path}" for path in paths_of(CallDetails)),  # None on the log
    },
    # What a gateway wrote, and a page on which the payer is asked for card data.
    GatewayCallCompleted: {"raw", "error.advice", "action_url"},
    WebhookReceived: {"headers.name", "headers.value", "body"},
    # What leaves the references index when the order ends, its results have said. Which rows hold an operation is no
    # part of what became of it.
    TimerFired: {
        "references.gateway",
        "references.account",
        "references.reference",
        "life_ms",
        "operations",
        "leaving.number",
        "leaving.content",
    },
    PaymentEvent: {
        "payment_id",  # the view of the payment says so
        "command_id",
        "operation.idempotency_key",  # its command's fact
        "operation.error.advice",
        "operation.action_url",
        "payment.origin_id",
        "payment.order_id",
        "payment.amount_minor",  # the command's facts
        "payment.currency",
    },
    DecisionMade: {"payment_id"},
    DecisionProposed: {"payment_id"},
    # Whole records of strangers, which may hold anything.
    DeadLetter: {"timestamp_ms", "key", "value", "headers.name", "headers.value", "withheld"},
}
"""Which fields a timeline leaves out. A field that is added stands here or in `facts`: somebody has decided."""


def facts_of(record: Record) -> object:
    found = shown(record)
    assert found is not None
    return found.facts


def other(value: object) -> object:
    """Another value of the same type."""
    match value:
        case StrEnum():
            return next(member for member in type(value) if member is not value)
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return value + "x"
        case bytes():
            return value + b"x"
        case tuple():
            return (other(value[0]), *value[1:])
    raise AssertionError(f"no other value of {type(value).__name__}")


def changed(record: Any, path: str) -> Any:
    """The same record with another value at the path."""
    name, _, below = path.partition(".")
    value = getattr(record, name)
    if not below:
        return dataclasses.replace(record, **{name: other(value)})
    if isinstance(value, tuple):
        return dataclasses.replace(record, **{name: (changed(value[0], below), *value[1:])})
    return dataclasses.replace(record, **{name: changed(value, below)})


@pytest.mark.parametrize("cls", [each for each in RECORD_CLASSES if each not in HIDDEN])
def test_field_of_a_record_is_a_fact_unless_it_is_said_why_not(cls: type[Record]) -> None:
    record = example(cls)
    if isinstance(record, ClaimDecided):
        record = dataclasses.replace(record, granted=False)  # only then does another operation hold the key
    hidden = {path for path in paths_of(cls) if facts_of(changed(record, path)) == facts_of(record)}
    addressed = {path for path in hidden if path in ADDRESS or path.endswith("_at_ms")}
    assert hidden - addressed == NOT_SHOWN.get(cls, set())
