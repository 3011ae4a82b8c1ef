"""What one gateway call comes to, whatever the gateway does."""

import asyncio
from dataclasses import replace

import pytest
import structlog.testing

from gateway_adapters import errors
from gateway_adapters.contract import WINDOW_MARGIN_MS, CallResult
from gateway_adapters.errors import Code, Signal, decline_for
from schemas.records.gateway import GatewayCallCompleted, GatewayCallRequested
from schemas.vocabulary import CallKind, Outcome
from streams.executor.gateway_calls import inquiry_for, is_refusal, perform, weakened_result
from tests.support.gateway_calls import NOW_MS, Behaviour, TellableGateway, capabilities_with, request_of, succeeds
from tests.support.metric_pages import rise_of

DAY_MS = 86_400_000


async def performed(
    gateway: TellableGateway,
    request: GatewayCallRequested,
    *,
    maybe_sent_before: bool = False,
    now_ms: int = NOW_MS,
    timeout_s: float = 5.0,
) -> GatewayCallCompleted:
    return await perform(
        gateway, request, maybe_sent_before=maybe_sent_before, timeout_s=timeout_s, clock_ms=lambda: now_ms
    )


def answering(outcome: Outcome, signal: Signal | None = None) -> Behaviour:
    async def behave(_: GatewayCallRequested) -> CallResult:
        return CallResult(outcome=outcome, error=None if signal is None else errors.error_for(signal))

    return behave


async def test_call_brings_the_gateways_result_when_all_goes_well() -> None:
    request = request_of(1)
    result = await performed(TellableGateway(), request)
    assert (result.outcome, result.kind, result.op_id) == (Outcome.SUCCEEDED, CallKind.SALE, request.op_id)
    assert (result.confirmed_amount_minor, result.completed_at_ms) == (request.amount_minor, NOW_MS)


async def test_nothing_is_sent_and_nothing_in_doubt_when_the_request_lacks_what_the_gateway_would_know_it_by() -> None:
    gateway = TellableGateway()
    result = await performed(gateway, replace(request_of(1), kind=CallKind.CAPTURE, token=None))
    assert (result.outcome, gateway.calls.total()) == (Outcome.NOT_EXECUTED, 0)
    assert result.error is not None
    assert (result.error.code, "payment_reference" in result.error.message) == ("invalid_request", True)


async def test_incomplete_request_stays_in_doubt_when_another_version_may_have_sent_it() -> None:
    request = replace(request_of(1), kind=CallKind.CAPTURE, token=None)
    result = await performed(TellableGateway(), request, maybe_sent_before=True)
    assert result.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("asked", [CallKind.SALE, CallKind.AUTHORIZE, CallKind.INQUIRE])
async def test_payment_is_in_doubt_when_its_success_names_no_reference(asked: CallKind) -> None:
    request = replace(request_of(1), kind=asked, inquired_kind=CallKind.SALE if asked is CallKind.INQUIRE else None)
    result = await performed(TellableGateway(answering(Outcome.SUCCEEDED)), request)
    assert result.outcome is Outcome.UNKNOWN
    assert result.error is not None
    assert "without the gateway's reference" in result.error.message


async def test_stored_answer_is_said_to_be_one() -> None:
    async def stored(_: GatewayCallRequested) -> CallResult:
        return CallResult(outcome=Outcome.UNKNOWN, error=errors.error_for(Signal.SERVER_ERROR), replayed=True)

    assert (await performed(TellableGateway(stored), request_of(1))).replayed


async def test_call_is_unknown_when_the_gateway_does_not_answer_in_time() -> None:
    async def never(_: GatewayCallRequested) -> CallResult:
        await asyncio.Event().wait()
        raise AssertionError

    result = await performed(TellableGateway(never), request_of(1), timeout_s=0.01)
    assert result.outcome is Outcome.UNKNOWN
    assert result.error is not None
    assert result.error.code == "gateway_timeout"


async def test_call_is_unknown_and_says_no_more_than_the_class_when_the_adapter_raises() -> None:
    async def broken(_: GatewayCallRequested) -> CallResult:
        raise KeyError("tok_visa")

    raised = rise_of("executor_unexpected_errors")
    result = await performed(TellableGateway(broken), request_of(1))
    assert raised() == 1
    assert result.outcome is Outcome.UNKNOWN
    assert result.error is not None
    assert "KeyError" in result.error.message
    assert "tok_visa" not in repr(result)


async def test_credentials_that_are_refused_are_counted_and_logged_for_someone_to_see_to() -> None:
    alarms = rise_of("executor_alarms", route="mock", code="gateway_refused_credentials")
    gateway = TellableGateway(answering(Outcome.NOT_EXECUTED, Signal.UNAUTHORIZED))
    with structlog.testing.capture_logs() as logged:
        for number in range(3):
            await performed(gateway, request_of(number))
        await performed(TellableGateway(answering(Outcome.NOT_EXECUTED, Signal.RATE_LIMITED)), request_of(9))
    assert alarms() == 3
    lines = [(line["event"], line["log_level"], line["error"], line["repeats"]) for line in logged]
    assert lines == [("gateway_alarm", "error", "gateway_refused_credentials at mock", True)] * 3


async def test_decline_by_a_code_that_nobody_knows_is_counted_by_gateway() -> None:
    counted = rise_of("declines_unknown", gateway="mock")

    def declining(code: Code) -> Behaviour:
        async def answer(_: GatewayCallRequested) -> CallResult:
            return CallResult(outcome=Outcome.DECLINED, error=decline_for(code, gateway_code="brand_new"))

        return answer

    await performed(TellableGateway(declining(Code.UNKNOWN)), request_of(1))
    await performed(TellableGateway(declining(Code.CARD_DECLINED)), request_of(2))
    assert counted() == 1


async def test_call_is_an_inquiry_and_never_sent_when_the_key_window_is_over() -> None:
    gateway, inquired = (
        TellableGateway(capabilities=capabilities_with(DAY_MS)),
        rise_of("executor_calls_past_key_window"),
    )
    request = request_of(1)
    result = await performed(gateway, request, now_ms=NOW_MS + DAY_MS)
    assert inquired() == 1
    assert set(gateway.calls) == {(CallKind.INQUIRE, request.gateway_key)}
    assert (result.kind, result.outcome) == (CallKind.SALE, Outcome.SUCCEEDED)


@pytest.mark.parametrize("late_ms", [0, 1])
async def test_call_window_closes_a_margin_early_when_clocks_differ(late_ms: int) -> None:
    gateway = TellableGateway(capabilities=capabilities_with(DAY_MS))
    await performed(gateway, request_of(1), now_ms=NOW_MS + DAY_MS - WINDOW_MARGIN_MS - 1 + late_ms)
    (kind, _), *_ = gateway.calls
    assert kind is (CallKind.INQUIRE if late_ms else CallKind.SALE)


async def test_call_past_the_window_is_unknown_when_the_inquiry_proves_nothing() -> None:
    gateway = TellableGateway(answering(Outcome.UNKNOWN), capabilities=capabilities_with(DAY_MS))
    assert (await performed(gateway, request_of(1), now_ms=NOW_MS + DAY_MS)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("maybe_sent_before", "outcome"), [(False, Outcome.NOT_EXECUTED), (True, Outcome.UNKNOWN)])
async def test_absence_proves_nothing_past_the_window_when_an_earlier_copy_may_be_on_its_way(
    *, maybe_sent_before: bool, outcome: Outcome
) -> None:
    nothing = answering(Outcome.NOT_EXECUTED, Signal.INQUIRY_FOUND_NOTHING)
    gateway = TellableGateway(nothing, capabilities=capabilities_with(DAY_MS))
    result = await performed(gateway, request_of(1), maybe_sent_before=maybe_sent_before, now_ms=NOW_MS + DAY_MS)
    assert [kind for kind, _ in gateway.calls] == [CallKind.INQUIRE]
    assert result.outcome is outcome


async def test_call_past_the_window_is_unknown_and_not_sent_when_the_gateway_cannot_be_asked() -> None:
    gateway = TellableGateway(capabilities=capabilities_with(DAY_MS, without=frozenset({CallKind.INQUIRE})))
    result = await performed(gateway, request_of(1), now_ms=NOW_MS + DAY_MS)
    assert result.outcome is Outcome.UNKNOWN
    assert not gateway.calls


async def test_inquiry_is_unknown_and_no_proof_when_the_gateway_cannot_be_asked() -> None:
    gateway = TellableGateway(capabilities=capabilities_with(None, without=frozenset({CallKind.INQUIRE})))
    assert (await performed(gateway, inquiry_for(request_of(1)))).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(("maybe_sent_before", "outcome"), [(False, Outcome.NOT_EXECUTED), (True, Outcome.UNKNOWN)])
async def test_refusal_proves_nothing_when_the_request_may_have_been_sent_before(
    *, maybe_sent_before: bool, outcome: Outcome
) -> None:
    gateway = TellableGateway(answering(Outcome.NOT_EXECUTED, Signal.NOT_SENT))
    result = await performed(gateway, request_of(1), maybe_sent_before=maybe_sent_before)
    assert result.outcome is outcome


async def test_call_is_sent_only_once_when_the_gateway_keeps_no_keys() -> None:
    capabilities = capabilities_with(None)
    no_keys = type(capabilities)(
        **{name: getattr(capabilities, name) for name in type(capabilities).__slots__ if name != "key_window_ms"},
        key_window_ms={},
    )
    gateway = TellableGateway(succeeds, capabilities=no_keys)
    await performed(gateway, request_of(1), maybe_sent_before=False)
    await performed(gateway, request_of(2), maybe_sent_before=True)
    assert [kind for kind, _ in gateway.calls] == [CallKind.SALE, CallKind.INQUIRE]


def test_inquiry_carries_no_token_when_it_stands_for_a_sale() -> None:
    inquiry = inquiry_for(request_of(1))
    assert (inquiry.kind, inquiry.inquired_kind, inquiry.token) == (CallKind.INQUIRE, CallKind.SALE, None)


@pytest.mark.parametrize(
    ("outcome", "maybe_sent_before", "still_ours", "sole"),
    [
        (Outcome.DECLINED, False, True, True),
        (Outcome.DECLINED, True, True, False),
        (Outcome.DECLINED, False, False, False),
        (Outcome.SUCCEEDED, False, True, False),
        (Outcome.NOT_EXECUTED, False, True, False),
    ],
)
async def test_decline_is_the_sole_answer_only_when_no_other_copy_of_the_call_may_have_been_made(
    *, outcome: Outcome, maybe_sent_before: bool, still_ours: bool, sole: bool
) -> None:
    result = await perform(
        TellableGateway(answering(outcome)),
        request_of(1),
        maybe_sent_before=maybe_sent_before,
        timeout_s=5.0,
        clock_ms=lambda: NOW_MS,
        still_ours=lambda: still_ours,
    )
    assert result.sole is sole


async def test_decline_is_not_the_sole_answer_when_it_was_stored_or_an_inquiry_told_it() -> None:
    async def stored(_: GatewayCallRequested) -> CallResult:
        return CallResult(outcome=Outcome.DECLINED, replayed=True)

    assert not (await performed(TellableGateway(stored), request_of(1))).sole
    declining = TellableGateway(answering(Outcome.DECLINED))
    assert not (await performed(declining, inquiry_for(request_of(1)))).sole
    past = TellableGateway(answering(Outcome.DECLINED), capabilities=capabilities_with(DAY_MS))
    assert not (await performed(past, request_of(1), now_ms=NOW_MS + DAY_MS)).sole


async def test_sole_decline_is_a_refusal_that_holds_only_while_no_other_worker_may_make_the_call() -> None:
    result = await performed(TellableGateway(answering(Outcome.DECLINED)), request_of(1))
    assert is_refusal(result)
    weaker = weakened_result(result)
    assert (weaker.outcome, weaker.sole, is_refusal(weaker)) == (Outcome.DECLINED, False, False)
    assert weakened_result(weaker) == weaker
