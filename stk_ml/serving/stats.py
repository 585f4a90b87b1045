"""What a worker has answered since it started: counts and latencies, for its status."""

from __future__ import annotations

from stk_ml.telemetry import latency


class Stats:
    """Counts of one worker; only its event loop adds to it.

    Example:
        >>> stats = Stats()
        >>> stats.add(200, 0.001); stats.add(500, 0.002)
        >>> stats.requests, stats.errors, 0.0009 < stats.quantile(0.5) < 0.0024
        (2, 1, True)
    """

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self._latency = [0] * (len(latency.EDGES) + 1)

    def add(self, status: int, seconds: float) -> None:
        """One answered request."""
        self.requests += 1
        self._latency[latency.bin(seconds)] += 1
        if status >= 500:
            self.errors += 1

    def quantile(self, share: float) -> float:
        """Latency in seconds that this share of the requests stayed below; 0.0 without requests."""
        return latency.quantile(self._latency, share) if self.requests else 0.0
