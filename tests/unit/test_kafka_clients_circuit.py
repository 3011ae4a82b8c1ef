"""The circuit: fails fast while the log is gone, and comes back by itself."""

from hypothesis import given
from hypothesis import strategies as st

from streams.kafka_clients.circuit import FAILURES_TO_OPEN, OPEN_S, Circuit, CircuitState


def opened(at_s: float = 100.0) -> Circuit:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN):
        circuit.failed(at_s)
    return circuit


def test_circuit_stays_closed_when_a_success_comes_between_failures() -> None:
    circuit = Circuit()
    for second in range(10):
        circuit.failed(float(second))
        circuit.succeeded()
    assert circuit.state is CircuitState.CLOSED
    assert circuit.retry_after_s(10.0) == 0.0


def test_circuit_refuses_and_says_when_to_come_back_when_it_is_open() -> None:
    circuit = opened(100.0)
    assert not circuit.admits(100.0 + OPEN_S / 2)
    assert circuit.retry_after_s(100.0 + OPEN_S / 4) == OPEN_S * 3 / 4


def test_circuit_lets_one_probe_through_when_its_time_has_come() -> None:
    circuit = opened(100.0)
    assert circuit.admits(100.0 + OPEN_S)
    assert circuit.state is CircuitState.HALF_OPEN
    assert not circuit.admits(100.0 + OPEN_S)
    assert circuit.admits(100.0 + 2 * OPEN_S)  # the first probe never reported: the next may go


def test_circuit_opens_again_when_the_probe_fails() -> None:
    circuit = opened(100.0)
    circuit.admits(101.0)
    assert not circuit.failed(101.5)  # it was not closed
    assert circuit.state is CircuitState.OPEN
    assert not circuit.admits(102.0)


def test_circuit_closes_when_anything_succeeds() -> None:
    circuit = opened()
    circuit.succeeded()
    assert circuit.state is CircuitState.CLOSED
    assert circuit.admits(100.0)


def test_circuit_opens_at_once_when_it_is_tripped() -> None:
    circuit = Circuit()
    assert circuit.trip(100.0)
    assert not circuit.admits(100.0)
    assert not circuit.trip(100.5)  # it was open, and its probe is not put off
    assert circuit.admits(100.0 + OPEN_S)


def test_circuit_says_once_that_it_opened_when_failures_go_on() -> None:
    circuit = Circuit()
    assert [circuit.failed(1.0) for _ in range(FAILURES_TO_OPEN + 2)].count(True) == 1


@given(st.lists(st.tuples(st.sampled_from(["admits", "failed", "succeeded"]), st.integers(0, 12)), max_size=80))
def test_circuit_never_stays_shut_when_nobody_reports(steps: list[tuple[str, int]]) -> None:
    circuit, now_s = Circuit(), 0.0
    for step, quarters in steps:
        now_s += quarters / 4  # exact in binary
        if step == "admits":
            circuit.admits(now_s)
        elif step == "failed":
            circuit.failed(now_s)
        else:
            circuit.succeeded()
            assert circuit.state is CircuitState.CLOSED
    assert circuit.retry_after_s(now_s) <= OPEN_S
    assert circuit.admits(now_s + OPEN_S)
