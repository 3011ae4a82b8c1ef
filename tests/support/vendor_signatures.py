"""Signatures of webhooks by the vendors' own npm packages, and what their own checks say of ours.

Called by: the tests of the gateways' webhooks. Calls: `tests/peers/vendor_signatures.mjs`, once for a whole batch: a
start of Node.js takes a good part of a second. Skipped where Node.js or the packages are missing. PayPal's packages
sign nothing.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.peers import node, node_folder
from tests.support.peers import or_skip

LIMIT_S = 60.0

_SCRIPT: Final = Path(__file__).parents[1] / "peers" / "vendor_signatures.mjs"


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeDelivery:
    """What is to be signed; the timestamp counts seconds."""

    payload: str
    secret: str
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeReceived:
    """What was received, and when, in seconds."""

    payload: str
    secret: str
    header: str
    received_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdyenDelivery:
    """What is to be signed: an item (`NotificationRequestItem`), or a payload as it stands. The key is hexadecimal."""

    signed: Mapping[str, Any] | str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdyenReceived:
    """An item with its signature in `additionalData`."""

    item: Mapping[str, Any]
    key: str


def stripe_headers(deliveries: Sequence[StripeDelivery]) -> list[str]:
    """Return the header `Stripe-Signature` of each."""
    return _answers(
        [{"ask": "stripe.sign", "payload": d.payload, "secret": d.secret, "timestamp": d.timestamp} for d in deliveries]
    )


def stripe_accepts(received: Sequence[StripeReceived]) -> list[bool]:
    """Return whether Stripe's own check, with its tolerance of 300 s, accepts each."""
    return _answers(
        [
            {
                "ask": "stripe.check",
                "payload": r.payload,
                "secret": r.secret,
                "header": r.header,
                "received_at": r.received_at,
            }
            for r in received
        ]
    )


def adyen_signatures(deliveries: Sequence[AdyenDelivery]) -> list[str]:
    """Return the signature of each, in Base64."""
    return _answers([{"ask": "adyen.sign", "signed": d.signed, "key": d.key} for d in deliveries])


def adyen_accepts(received: Sequence[AdyenReceived]) -> list[bool]:
    """Return whether Adyen's own check accepts each."""
    return _answers([{"ask": "adyen.check", "item": r.item, "key": r.key} for r in received])


def _answers(tasks: Sequence[Mapping[str, Any]]) -> list[Any]:
    with or_skip():
        argv = [node(), str(_SCRIPT), str(node_folder())]
    done = subprocess.run(argv, input=json.dumps(tasks), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    assert len(answers) == len(tasks)
    return answers
