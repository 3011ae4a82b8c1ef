"""The life of a payment from the log: whose it is, in which order, and never with a token."""

import dataclasses

import pytest

from schemas import identifiers
from schemas.event_types import Transition, event_type
from schemas.records.claims import ClaimDecided, ClaimRequested, RoutePlan
from schemas.records.commands import CaptureRequested, PaymentRequested, RefundRequested, op_id_of
from schemas.records.gateway import GatewayCallRequested
from schemas.records.payments import OperationView, PaymentEvent
from schemas.topics import CLAIMS, COMMANDS, DLQ, EVENTS, GATEWAY_REQUESTS, VERDICTS
from schemas.vocabulary import CallKind, Initiator, OperationKind, OperationState
from streams.operator_tools.errors import NotFoundError, RefusedError
from streams.operator_tools.memory_log import MemoryLog
from streams.operator_tools.timelines import Entry, Timeline, subject_of, timeline
from tests.support.operator_log import CODEC, bury, dead_letter, memory_log, payment_requested, put

PLAN = RoutePlan(policy_version=3, gateways=(identifiers.GatewayRoute("mock"),), refusal=None)
SALE = payment_requested()
PAYMENT = identifiers.payment_id(SALE.order_id, op_id_of(SALE))


def _key(command: PaymentRequested) -> bytes:
    return command.order_id.encode()


def _claimed(log: MemoryLog, command: PaymentRequested, *, granted: bool = True) -> None:
    op = op_id_of(command)
    common = {
        "origin_id": command.origin_id,
        "idempotency_key": command.idempotency_key,
        "order_id": command.order_id,
        "op_id": op,
        "plan": PLAN,
    }
    claim = ClaimRequested(**common, requested_at_ms=1)  # type: ignore[arg-type]  # the same five fields twice
    put(log, CLAIMS, claim, key=identifiers.claim_key(command.origin_id, command.idempotency_key), event_id=f"c-{op}")
    verdict = ClaimDecided(
        **common,  # type: ignore[arg-type]  # as above
        granted=granted,
        holder_order_id=command.order_id,
        holder_op_id=op,
        decided_at_ms=1,
    )
    put(log, VERDICTS, verdict, key=_key(command), event_id=f"v-{op}")


def _called(log: MemoryLog, command: PaymentRequested) -> None:
    op = op_id_of(command)
    call = GatewayCallRequested(
        origin_id=command.origin_id,
        order_id=command.order_id,
        payment_id=identifiers.payment_id(command.order_id, op),
        op_id=op,
        kind=CallKind.SALE,
        inquired_kind=None,
        attempt=1,
        call_number=1,
        gateway=identifiers.GatewayName("mock"),
        gateway_key=identifiers.gateway_key(op, 1),
        amount_minor=1999,
        currency="USD",
        token=command.token,
        payment_reference=None,
        own_reference=None,
        final=True,
        first_requested_at_ms=1,
        requested_at_ms=1,
    )
    put(log, GATEWAY_REQUESTS, call, key=_key(command), event_id=f"g-{op}")


def _happened(log: MemoryLog, command: PaymentRequested, *, refund: RefundRequested | None = None) -> None:
    opener = refund or command
    op = op_id_of(opener)
    kind = OperationKind.SALE if refund is None else OperationKind.REFUND
    view = OperationView(
        op_id=op,
        kind=kind,
        initiator=Initiator.MERCHANT,
        state=OperationState.SUCCEEDED,
        idempotency_key=opener.idempotency_key,
        amount_minor=1999,
        counted_minor=0,
        currency="USD",
        refund_id=None if refund is None else identifiers.refund_id(refund.order_id, op),
        gateway=None,
        gateway_reference=None,
        attempts=1,
        error=None,
        rejection=None,
        action_url=None,
        requested_at_ms=1,
        updated_at_ms=1,
    )
    event = PaymentEvent(
        origin_id=command.origin_id,
        order_id=command.order_id,
        payment_id=identifiers.payment_id(command.order_id, op_id_of(command)),
        command_id="c-1",
        sequence=1,
        operation=view,
        payment=None,
        occurred_at_ms=1,
    )
    name = event_type(kind, Transition.SUCCEEDED)
    put(log, EVENTS, event, key=_key(command), event_id=f"e-{op}", event_type=name)


def _sale(log: MemoryLog, command: PaymentRequested = SALE) -> None:
    put(log, COMMANDS, command, key=_key(command), event_id=f"cmd-{op_id_of(command)}")
    _claimed(log, command)
    _called(log, command)
    _happened(log, command)


def _life(log: MemoryLog, identifier: str, origin: str | None = None) -> Timeline:
    return timeline(log, CODEC, subject_of(identifier, origin=origin))


def _kinds(life: Timeline) -> list[str]:
    return [entry.kind for entry in life.entries]


def test_timeline_tells_the_whole_life_in_causal_order_when_asked_by_payment_id() -> None:
    log = memory_log()
    _sale(log)
    life = _life(log, PAYMENT)
    assert _kinds(life) == ["command", "claim", "verdict", "gateway request", "event"]
    assert (life.origin_id, life.order_id) == ("m1", "order-1")
    assert {entry.op_id for entry in life.entries} == {op_id_of(SALE)}


def test_timeline_orders_causes_before_effects_when_all_have_the_same_time() -> None:
    log = memory_log(lambda: 1_700_000_000_000)
    _happened(log, SALE)
    _called(log, SALE)
    _claimed(log, SALE)
    put(log, COMMANDS, SALE, key=_key(SALE))
    assert _kinds(_life(log, PAYMENT)) == ["command", "claim", "verdict", "gateway request", "event"]


def test_timeline_shows_no_token_when_records_carry_one() -> None:
    log = memory_log()
    _sale(log)
    assert "tok_secret" not in str(_life(log, PAYMENT))


def test_timeline_hides_other_origins_when_they_use_the_same_order_id() -> None:
    log = memory_log()
    _sale(log)
    _sale(log, payment_requested(origin="m2"))
    assert len(_life(log, "order-1", origin="m2").entries) == 5
    assert {entry.op_id for entry in _life(log, PAYMENT).entries} == {op_id_of(SALE)}


def test_timeline_hides_other_orders_when_they_share_a_partition_or_a_key() -> None:
    log = memory_log()
    _sale(log)
    for number in range(20):
        _sale(log, payment_requested(f"other-{number}"))
    assert len(_life(log, "order-1", origin="m1").entries) == 5


def test_timeline_marks_a_repeat_when_a_replay_wrote_an_event_again() -> None:
    log = memory_log()
    _sale(log)
    _happened(log, SALE)
    assert [entry.repeat for entry in _life(log, PAYMENT).entries] == [False] * 5 + [True]


def test_timeline_tells_only_the_refund_when_asked_by_refund_id() -> None:
    log = memory_log()
    _sale(log)
    refund = RefundRequested(
        origin_id=SALE.origin_id,
        order_id=SALE.order_id,
        idempotency_key=identifiers.idempotency_key("refund-1"),
        payment_id=PAYMENT,
        amount_minor=500,
        currency="USD",
    )
    put(log, COMMANDS, refund, key=_key(SALE), event_id="cmd-refund")
    _happened(log, SALE, refund=refund)
    refund_id = identifiers.refund_id(SALE.order_id, op_id_of(refund))
    assert _kinds(_life(log, refund_id)) == ["command", "event"]
    assert len(_life(log, PAYMENT).entries) == 7


def test_timeline_leaves_out_the_first_payment_when_the_order_had_another_after_it() -> None:
    log = memory_log()
    _sale(log)
    second = payment_requested(key="idem-2")
    _sale(log, second)
    second_id = identifiers.payment_id(second.order_id, op_id_of(second))
    assert {entry.op_id for entry in _life(log, second_id).entries} == {op_id_of(second)}


def test_timeline_finds_the_origin_by_a_later_command_when_the_first_is_gone() -> None:
    log = memory_log()
    capture = CaptureRequested(
        origin_id=SALE.origin_id,
        order_id=SALE.order_id,
        idempotency_key=identifiers.idempotency_key("capture-1"),
        payment_id=PAYMENT,
        amount_minor=None,
        currency=None,
        final=True,
    )
    put(log, COMMANDS, capture, key=_key(SALE))
    assert _life(log, PAYMENT).origin_id == "m1"


def test_timeline_shows_dead_letters_of_the_order_when_there_are_some() -> None:
    log = memory_log()
    _sale(log)
    bury(log, dead_letter(key=b"order-1", origin=None))
    bury(log, dead_letter(key=b"order-1", offset=1, origin="m2"))
    letters = [entry for entry in _life(log, "order-1", origin="m1").entries if entry.topic == DLQ]
    assert [dict(entry.facts)["reason"] for entry in letters] == ["undecodable"]


@pytest.mark.parametrize(("identifier", "origin"), [(PAYMENT, None), ("order-1", "m1")])
def test_timeline_says_not_found_when_the_log_holds_no_trace(identifier: str, origin: str | None) -> None:
    with pytest.raises(NotFoundError, match="no trace"):
        _life(memory_log(), identifier, origin)


def test_timeline_says_not_found_when_a_payment_id_is_not_the_orders() -> None:
    log = memory_log()
    _sale(log)
    other = payment_requested(key="never-sent")
    with pytest.raises(NotFoundError):
        _life(log, identifiers.payment_id(other.order_id, op_id_of(other)))


@pytest.mark.parametrize(("identifier", "origin"), [("order-1", None), ("or der", "m1"), (PAYMENT, "m|1")])
def test_subject_of_refuses_when_the_id_cannot_mean_anything(identifier: str, origin: str | None) -> None:
    with pytest.raises(RefusedError):
        subject_of(identifier, origin=origin)


def test_entry_shows_no_field_that_was_not_allowed_when_a_record_has_one() -> None:
    log = memory_log()
    _sale(log)
    shown = {name for entry in _life(log, PAYMENT).entries for name, _ in entry.facts}
    assert "requested_at_ms" not in shown
    assert {field.name for field in dataclasses.fields(Entry)} >= {"event_id", "event_type"}
