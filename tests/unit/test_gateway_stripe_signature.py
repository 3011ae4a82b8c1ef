"""Whose a webhook of Stripe's is: recorded vectors, several secrets, both sides of the clock, what is tampered with."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway_adapters.errors import UnauthenticError
from gateway_adapters.stripe.signature import MAX_SIGNATURES, TOLERANCE_S, sign, verify

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "stripe.json").read_text())
AT_S = 1_800_000_000
BODY = b'{"id": "evt_1"}'
SECRETS = ("whsec_old", "whsec_new")


def accepted(header: str | None, body: bytes = BODY, *, now_s: int = AT_S) -> bool:
    try:
        verify(header, body, secrets=SECRETS, now_s=now_s)
    except UnauthenticError:
        return False
    return True


@pytest.mark.parametrize("vector", VECTORS, ids=[each["name"] for each in VECTORS])
def test_recorded_webhook_is_authentic_and_nothing_but_itself(vector: dict[str, Any]) -> None:
    header, body, now_s = vector["signature_header"], vector["payload"].encode(), vector["timestamp"]
    secrets = ["whsec_another", vector["secret"]]
    verify(header, body, secrets=secrets, now_s=now_s)
    for altered in (body[:-1], body + b" ", body.replace(b"1", b"2", 1)):
        with pytest.raises(UnauthenticError):
            verify(header, altered, secrets=secrets, now_s=now_s)
    with pytest.raises(UnauthenticError):
        verify(header, body, secrets=["whsec_another"], now_s=now_s)
    with pytest.raises(UnauthenticError):
        verify(header.replace(f"t={now_s}", f"t={now_s + 1}"), body, secrets=secrets, now_s=now_s)


@pytest.mark.parametrize("secret", SECRETS)
def test_every_live_secret_is_good(secret: str) -> None:
    assert accepted(sign(BODY, secret=secret, at_s=AT_S))
    assert not accepted(sign(BODY, secret="whsec_forged", at_s=AT_S))


def test_every_signature_in_the_header_is_looked_at() -> None:
    ours = sign(BODY, secret="whsec_new", at_s=AT_S).partition(",")[2]
    assert accepted(f"t={AT_S},v1={'0' * 64},{ours}")
    assert not accepted(f"t={AT_S},v1={'0' * 64},{ours.replace('v1', 'v0')}")


@pytest.mark.parametrize(
    ("away_s", "good"),
    [(0, True), (TOLERANCE_S, True), (-TOLERANCE_S, True), (TOLERANCE_S + 1, False), (-TOLERANCE_S - 1, False)],
)
def test_time_is_judged_on_both_sides(away_s: int, good: bool) -> None:
    assert accepted(sign(BODY, secret="whsec_old", at_s=AT_S + away_s)) is good


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "t=",
        f"t={AT_S}",
        "v1=" + "0" * 64,
        f"t={AT_S},t={AT_S},v1=00",
        f"t=-{AT_S},v1=00",
        "t=" + "9" * 13 + ",v1=00",
        f"t={AT_S},v1=é",
        f"t={AT_S}" + ",v1=00" * (MAX_SIGNATURES + 1),
        f"t={AT_S},v1=" + "0" * 4096,
    ],
)
def test_header_that_is_none_is_refused(header: str | None) -> None:
    assert not accepted(header)


def test_no_webhook_is_authentic_without_a_secret() -> None:
    with pytest.raises(UnauthenticError):
        verify(sign(BODY, secret="", at_s=AT_S), BODY, secrets=(), now_s=AT_S)
