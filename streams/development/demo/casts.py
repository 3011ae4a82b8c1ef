"""What of the tour depends on the gateway that it is played at: tokens, and what its peer cannot play.

Read by `script`, `stage` and `tour`. The Mock plays everything. Another gateway is played by a peer that somebody else
wrote, at the address that the settings name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from schemas.identifiers import GatewayName
from schemas.misconfigured import MisconfiguredError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """One gateway's."""

    gateway: GatewayName
    token: str  # which simply works
    declined_token: str
    declined_as: str  # the gateway's code
    pending_token: str | None  # None: nothing is pending at its peer
    captures_holds: bool
    lacks: str  # what is not played, and why; empty: all is


MOCK: Final = Cast(
    gateway=GatewayName("mock"),
    token="tok_visa",  # noqa: S106 -- a test token
    declined_token="tok_chargeDeclinedInsufficientFunds",  # noqa: S106 -- a test token
    declined_as="insufficient_funds",
    pending_token="tok_mock_pending_then_succeeded",  # noqa: S106 -- a test token
    captures_holds=True,
    lacks="",
)
STRIPE: Final = Cast(
    gateway=GatewayName("stripe"),
    token="pm_card_visa",  # noqa: S106 -- a test token
    declined_token="pm_card_chargeCustomerFail",  # noqa: S106 -- a test token
    declined_as="card_declined",
    pending_token=None,
    captures_holds=False,  # its local peer refuses the note that a capture leaves in its payment
    lacks="Not played here: a capture of a hold, and an outcome that comes later. The peer knows neither.",
)
CASTS: Final[Mapping[GatewayName, Cast]] = MappingProxyType({each.gateway: each for each in (MOCK, STRIPE)})


def cast_at(gateway: str | None) -> Cast:
    """Return what is played at this gateway; None: at the Mock. Raises: MisconfiguredError: the tour is not."""
    cast = MOCK if gateway is None else CASTS.get(GatewayName(gateway))
    if cast is None:
        raise MisconfiguredError(f"the tour is played at {' or '.join(CASTS)}, not at {gateway!r}")
    return cast
