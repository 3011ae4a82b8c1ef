"""The ingress of a fault run with four gateways: production's, but that PayPal's hosts are a simulator on loopback.

`python -m tests.faults.ingress`, with the simulator's address in `TESTS_PAYPAL_HOSTS`. Everything else about a
certificate holds as it does: which URLs it may stand at, the chain up to the account's roots, its name and its time.
"""

import os
import sys
from collections.abc import Callable
from typing import Final

from gateway_adapters.certificates import HttpsCertificates
from gateway_adapters.http_transport import HttpTransport, TransportLimits
from http_ingress import program
from streams.cli import main

HOSTS_VARIABLE: Final = "TESTS_PAYPAL_HOSTS"
LIMITS: Final = TransportLimits(connections=4, connect_timeout_s=2.0, read_timeout_s=4.0, total_timeout_s=5.0)


class LoopbackCertificates(HttpsCertificates):
    """Fetches from the simulator what stands at PayPal's hosts."""

    def __init__(self, *, monotonic_s: Callable[[], float]) -> None:
        super().__init__(
            monotonic_s=monotonic_s,
            open_transport=lambda _: HttpTransport(base_url=os.environ[HOSTS_VARIABLE], limits=LIMITS),
        )


if __name__ == "__main__":
    setattr(program, HttpsCertificates.__name__, LoopbackCertificates)
    sys.argv[1:] = ["ingress"]
    main()
