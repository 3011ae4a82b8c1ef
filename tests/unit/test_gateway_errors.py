import pytest

from gateway_adapters.errors import (
    ALARMS,
    DECLINES,
    SIGNALS,
    CallFailedError,
    Code,
    GatewayError,
    Signal,
    decline_for,
    error_for,
)
from schemas.vocabulary import Outcome, RetryAdvice


def test_every_signal_has_its_row() -> None:
    assert SIGNALS.keys() == set(Signal)


def test_not_executed_is_only_said_on_positive_evidence() -> None:
    said = {signal for signal, row in SIGNALS.items() if row.outcome is Outcome.NOT_EXECUTED}
    assert said == {
        Signal.NOT_SENT,
        Signal.RATE_LIMITED,
        Signal.BAD_REQUEST,
        Signal.UNAUTHORIZED,
        Signal.INQUIRY_FOUND_NOTHING,
        Signal.UNSUPPORTED,
        Signal.INCOMPLETE,
        Signal.COMMAND_GONE,
        Signal.NO_SUCH_GATEWAY,
        Signal.CIRCUIT_OPEN,
        Signal.NO_SLOT,
    }


def test_code_is_an_alarm_whichever_signal_it_comes_from() -> None:
    assert {row.code for row in SIGNALS.values() if not row.alarm}.isdisjoint(ALARMS)
    assert Code.GATEWAY_REFUSED_CREDENTIALS in ALARMS


def test_credentials_that_one_gateway_refuses_leave_the_payment_to_another() -> None:
    assert error_for(Signal.UNAUTHORIZED).retry is RetryAdvice.OTHER_GATEWAY


def test_no_signal_is_a_success_or_a_decline() -> None:
    assert {row.outcome for row in SIGNALS.values()} == {Outcome.NOT_EXECUTED, Outcome.UNKNOWN, Outcome.PENDING}


def test_doubt_never_advises_another_gateway() -> None:
    in_doubt = [row for row in SIGNALS.values() if row.outcome is Outcome.UNKNOWN]
    assert {row.retry for row in in_doubt} == {RetryAdvice.SAME_KEY_NOW, RetryAdvice.NEVER}


def test_error_of_a_signal_is_in_the_tables_words() -> None:
    error = error_for(Signal.RATE_LIMITED, gateway_code="http_429", detail="slow down", retry_after_ms=1500)
    assert (error.code, error.retry, error.retry_after_ms) == ("rate_limited", RetryAdvice.NEW_KEY_LATER, 1500)
    assert (error.decline_class, error.gateway_code) == (None, "http_429")
    assert error.message.endswith("(slow down)")


@pytest.mark.parametrize("code", sorted(DECLINES))
def test_decline_carries_its_class_and_advice(code: Code) -> None:
    error = decline_for(code, gateway_code="do_not_try", advice="stop")
    assert (error.decline_class, error.retry) == (DECLINES[code].decline_class, DECLINES[code].retry)
    assert (error.gateway_code, error.advice) == ("do_not_try", "stop")


def test_failed_call_tells_its_signal_and_no_more_than_a_class_name() -> None:
    error = CallFailedError(Signal.NOT_SENT, "ClientConnectorError")
    assert isinstance(error, GatewayError)
    assert str(error) == "not_sent: ClientConnectorError"
