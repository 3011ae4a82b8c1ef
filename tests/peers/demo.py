"""The tour of `payment-engine demo` at a gateway's local peer (`make demo GATEWAY=stripe`).

Starts the peer, has it deliver its webhooks to the tour's ingress, and plays what this peer can play. Nothing leaves
the machine, and no account is needed.

Usage: `python -m tests.peers.demo GATEWAY`.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

from streams.development.local_engine import LOOPBACK, free_port
from tests.peers.install import PeerUnavailableError
from tests.support import peers

SECRET = "whsec_of_the_demo"
PLAYED = "stripe"
"""The one gateway with a peer that keeps payments; Adyen's and PayPal's judge, and keep nothing."""


def main(arguments: Sequence[str]) -> int:
    """Play it; returns the exit code."""
    if list(arguments) != [PLAYED]:
        sys.stderr.write(f"no peer keeps payments but that of {PLAYED}: `make demo GATEWAY={PLAYED}`\n")
        return 2
    try:
        peer = peers.localstripe()
    except PeerUnavailableError as missing:
        sys.stderr.write(f"no peer: {missing}\n")
        return 1
    try:
        port = free_port()
        peer.deliver_to(f"http://{LOOPBACK}:{port}/webhooks/{PLAYED}", SECRET)
        own = {
            "PAYMENT_ENGINE_GATEWAY_STRIPE_URL": peer.url,
            "PAYMENT_ENGINE_GATEWAY_STRIPE_API_KEY": peers.STRIPE_KEY,
            "PAYMENT_ENGINE_GATEWAY_STRIPE_WEBHOOK_SECRET": SECRET,
        }
        argv = [sys.executable, "-m", "streams.cli", "demo", "--gateway", PLAYED, "--port", str(port)]
        return subprocess.run(argv, check=False, env={**os.environ, **own}).returncode
    finally:
        peers.stop_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
