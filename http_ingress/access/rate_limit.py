"""How many requests an origin may send: one token bucket each. Pure but for its own table; time is an argument.

Called for each authenticated request. An instance counts for itself: with n instances behind a balancer an origin gets
up to n times its rate, which is what protects an instance.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass

from http_ingress.limits import MAX_ORIGINS_TRACKED, RATE_BURST_S
from schemas.identifiers import OriginId


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at_s: float


class RateLimiter:
    """Token buckets by origin. An origin that is not tracked has a full bucket."""

    def __init__(self, *, requests_per_second: int) -> None:
        self._rate = requests_per_second
        self._burst = requests_per_second * RATE_BURST_S
        self._buckets: OrderedDict[OriginId, _Bucket] = OrderedDict()

    def take(self, origin: OriginId, *, now_s: float) -> int:
        """Take one token. Returns 0 when there was one, else the whole seconds after which there will be."""
        bucket = self._buckets.get(origin)
        if bucket is None:
            bucket = self._buckets[origin] = _Bucket(self._burst, now_s)
            if len(self._buckets) > MAX_ORIGINS_TRACKED:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(origin)
        elapsed_s = max(0.0, now_s - bucket.filled_at_s)
        bucket.tokens = min(self._burst, bucket.tokens + elapsed_s * self._rate)
        bucket.filled_at_s = now_s
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0
        return max(1, math.ceil((1 - bucket.tokens) / self._rate))
