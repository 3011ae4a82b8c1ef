"""Every kind of fault, by what it touches."""

from tests.faults.fault import Fault
from tests.faults.kinds import brokers, clock, gateway, network, poison, state, workers

FAULTS: tuple[Fault, ...] = (
    *workers.FAULTS,
    *state.FAULTS,
    *clock.FAULTS,
    *brokers.FAULTS,
    *network.FAULTS,
    *gateway.FAULTS,
    *poison.FAULTS,
)
"""In the order of docs/verification.md."""
