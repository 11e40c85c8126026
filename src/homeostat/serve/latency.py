"""Histograms of durations that merge exactly: a count per bucket, buckets of at most 3 %."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from homeostat.core.errors import HomeostatError

__all__ = ["Histogram"]

_BITS = 5  # 32 buckets per power of two


def _bucket(nanoseconds: int) -> int:
    below = max(nanoseconds - 1, 0)  # a bucket is (low, high], so that powers of two end one
    exponent = below.bit_length() - _BITS - 1
    if exponent < 0:
        return below
    return ((exponent + 1) << _BITS) + (below >> exponent) - (1 << _BITS)


def _upper(bucket: int) -> int:
    exponent = (bucket >> _BITS) - 1
    if exponent < 0:
        return bucket + 1
    return ((bucket & ((1 << _BITS) - 1)) + (1 << _BITS) + 1) << exponent


class Histogram:
    """Counts of whole nanoseconds; merging two gives the histogram of both.

    >>> fast, slow = Histogram(), Histogram()
    >>> fast.add(1_000)
    >>> slow.add(1_000_000, count=3)
    >>> both = fast.merge(slow)
    >>> both.count, both.percentile(0.25) <= 1_032, both.percentile(0.99) >= 1_000_000
    (4, True, True)
    """

    __slots__ = ("_counts", "count", "total")

    def __init__(self, counts: Mapping[int, int] | None = None, total: int = 0) -> None:
        self._counts: dict[int, int] = dict(counts or {})
        self.count = sum(self._counts.values())
        self.total = total

    def add(self, nanoseconds: int, count: int = 1) -> None:
        """Count a duration (below 0 counts as 0) `count` times."""
        if count < 1:
            raise HomeostatError(f"histogram: count={count}; allowed: 1 or more; leave it out.")
        nanoseconds = max(nanoseconds, 0)
        bucket = _bucket(nanoseconds)
        self._counts[bucket] = self._counts.get(bucket, 0) + count
        self.count += count
        self.total += nanoseconds * count

    def merge(self, other: Histogram) -> Histogram:
        """Return the histogram of the durations of both."""
        merged = Histogram(self._counts, self.total + other.total)
        for bucket, count in other._counts.items():
            merged._counts[bucket] = merged._counts.get(bucket, 0) + count
        merged.count += other.count
        return merged

    def percentile(self, q: float) -> int:
        """Return an upper bound, at most 3.2 % above, of the q-quantile in nanoseconds.

        Args:
            q: from 0 to 1; the quantile is the smallest duration that at least `q * count`
                durations do not exceed.
        """
        if not 0 <= q <= 1:
            raise HomeostatError(f"histogram: q={q}; allowed: 0 to 1; write 0.99 for the 99th.")
        if not self.count:
            raise HomeostatError("histogram: it is empty; allowed: 1 or more durations; add one.")
        seen = 0
        buckets = sorted(self._counts)
        for bucket in buckets:
            seen += self._counts[bucket]
            if seen >= q * self.count:
                return _upper(bucket)
        return _upper(buckets[-1])

    def cumulative(self, powers: range) -> Iterator[tuple[int, int]]:
        """Yield (2**power nanoseconds, how many durations are at most that long), exactly."""
        buckets = sorted(self._counts)
        seen, place = 0, 0
        for power in powers:
            while place < len(buckets) and _upper(buckets[place]) <= 1 << power:
                seen += self._counts[buckets[place]]
                place += 1
            yield 1 << power, seen

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return (self._counts, self.total) == (other._counts, other.total)

    __hash__ = None  # type: ignore[assignment]
