"""The gateways' peers that nobody here wrote: what the tests run against, and what they sign webhooks with.

Called by: `make peers` (the program of this package) and `tests.support`. Every peer is pinned, with hashes, by a file
of this folder; `install` fetches it once into `.peers/`. The vendors' documents are kept in `documents`, with their
sources.
"""

from pathlib import Path
from typing import Final

from tests.peers.install import (
    REQUIRE_VARIABLE,
    PeerUnavailableError,
    localstripe_python,
    node,
    node_folder,
    paypal_documents,
    peers_are_required,
    stripe_mock_program,
)

__all__ = [
    "ADYEN_DOCUMENT",
    "PAYPAL_DOCUMENT",
    "REQUIRE_VARIABLE",
    "PeerUnavailableError",
    "localstripe_python",
    "node",
    "node_folder",
    "paypal_documents",
    "peers_are_required",
    "stripe_mock_program",
]

ADYEN_DOCUMENT: Final = Path(__file__).with_name("documents") / "adyen-checkout-v71.json"
"""Adyen's OpenAPI document of Checkout v71, as its vendor wrote it."""

PAYPAL_DOCUMENT: Final = Path(__file__).with_name("documents") / "paypal.json"
"""PayPal's OpenAPI documents, merged and repaired by `vendor_specs.mjs`."""
