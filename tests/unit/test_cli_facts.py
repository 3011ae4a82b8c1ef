"""What a timeline may show of each record: something of every kind that has a place on one, and never a token."""

import dataclasses

import pytest

from schemas.record_shapes import RECORD_CLASSES, Record
from schemas.records.commands import PaymentRequested, RefundRequested, VoidRequested
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested, WebhookReceived
from schemas.records.payments import OperationReplied, PaymentEvent, PaymentQueried
from schemas.records.policies import OriginPolicy
from streams.operator_tools.facts import REDACTED, shown
from tests.support.golden_messages import example

HIDDEN = (OperationReplied, PaymentQueried, OriginPolicy)


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
