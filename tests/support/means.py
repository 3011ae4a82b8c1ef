"""What payers bring to a run with four gateways: a token for each, so that a payment can go wherever its policy says.

Used by `workload.Shopper`. The Mock's token is the one that the workload has drawn, its scenarios included. Each other
gateway declines a share of its own, in its own words, so that a decline of one is no decline of the next.
"""

import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

RETURN_URL: Final = "https://shop.example/back"
DECLINED: Final = 0.12
"""Share of a gateway's tokens that it declines."""

DECLINES: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "stripe": (
            "pm_card_chargeDeclined",
            "pm_card_chargeDeclinedInsufficientFunds",
            "pm_card_chargeDeclinedExpiredCard",
            "pm_declined_do_not_honor",
        ),
        "adyen": ("declined_2", "declined_12", "declined_6", "declined_20"),
        "paypal": ("declined_5120", "declined_5400", "declined_0500", "issue_INSTRUMENT_DECLINED"),
    }
)
PAYER_ACTS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "stripe": ("card", "pm_card_authenticationRequired"),
        "adyen": ("stored", "redirect_completed"),
        "paypal": ("approval", "payer"),
    }
)
"""Kind and value of a token whose payer has to act."""

KINDS: Final[Mapping[str, str]] = MappingProxyType({"stripe": "card", "adyen": "stored", "paypal": "paypal"})


def mock_token_of(body: Mapping[str, Any]) -> str | None:
    """Return the token that the Mock is given for this payment."""
    if body.get("token") is not None:
        return str(body["token"])
    return next((str(each["value"]) for each in body.get("tokens", ()) if each["gateway"] == "mock"), None)


def with_tokens(body: Mapping[str, Any], chance: random.Random, *, payer_acts: bool) -> dict[str, Any]:
    """Return the payment with a token for each gateway instead of the Mock's alone."""
    tokens = list(body.get("tokens", ()))
    if not tokens:
        tokens = [{"gateway": "mock", "kind": "stored", "value": body["token"]}]
    for gateway, usual in KINDS.items():
        kind, value = usual, f"{gateway}{chance.randrange(10**9)}"
        if payer_acts:
            kind, value = PAYER_ACTS[gateway]
        elif chance.random() < DECLINED:
            value = chance.choice(DECLINES[gateway])
        token = {"gateway": gateway, "kind": kind, "value": value}
        tokens.append(token | ({"payerReference": "shopper-17"} if gateway == "adyen" else {}))
    rest = {name: value for name, value in body.items() if name not in {"token", "tokens"}}
    return rest | {"tokens": tokens, "returnUrl": RETURN_URL}
