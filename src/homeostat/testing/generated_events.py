"""Hypothesis strategy: events that are hostile to windows, in the order of their log.

Times lie on a coarse grid, so that events tie with each other and meet window boundaries exactly;
events come late, too late, from the future, with missing keys, missing values, and values of very
different magnitudes. A history is cut from one string of bytes: that is fast, and it shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from homeostat.core.ids import event_tie

__all__ = ["LATENESS", "PLACES", "SITES", "START", "TICK", "event_rows"]

T = TypeVar("T")

START = 1_700_000_000_000_000
"""The first known time of generated histories, in microseconds."""

TICK = 10_000_000
"""Most instants are multiples of this: ten seconds."""

LATENESS = 60 * TICK

PLACES = (*"aaaaaa", "ab", "ü", "\N{SNOWMAN}\N{COMBINING ACUTE ACCENT}", "", None)
SITES = (0, 0, 0, 0, 1, -5, None)
GAPS = (0, 0, 1, TICK, TICK, 3 * TICK, 20 * TICK)
LAGS = (0, 0, 0, 1, TICK, 6 * TICK, 30 * TICK, LATENESS, LATENESS + 1, -2 * TICK)
AMOUNTS = (None, 0.0, -0.0, 0.1, -0.1, 1e-6, 1e9, -1e9, 123.456, 2.0**-30, 5e-324, 2.0, 2.0)
LARGE = (*AMOUNTS, 3e7 + 0.1, 2.0**51, 2.0**51, -(2.0**51), 2.0**52 - 0.5, 5e15, -1e300)
"""Amounts some of which, or the sums of which, leave the range of exact sums."""

UNITS = (None, *range(-3, 4))
LARGE_UNITS = (*UNITS, 2**51, -(2**52) + 1, 2**52, -(2**63))

_ROW = 24
"""Bytes per event."""


class _Bytes:
    """Choices, one byte or more each."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self._at = raw, 0

    def number(self, size: int) -> int:
        """A signed whole number of `size` bytes."""
        self._at += size
        return int.from_bytes(self._raw[self._at - size : self._at], "big", signed=True)

    def pick(self, among: Sequence[T]) -> T:
        """One of several."""
        return among[self.number(1) % len(among)]

    def amount(self, often: Sequence[float | None]) -> float | None:
        """A number that occurs often, or one of any magnitude from 1e-6 to 1e9."""
        common, mantissa, exponent = self.pick(often), self.number(2), self.number(1)
        return common if exponent % 2 else mantissa / 2**15 * 10.0 ** (exponent % 16 - 6)


@st.composite
def event_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw up to 30 rows of the events frame of `generators.readings`."""
    size = draw(st.integers(0, 30) | st.integers(12, 30))
    known, offset = START, 0
    rows = []
    raw = draw(st.binary(min_size=_ROW * size, max_size=_ROW * size))
    large = bool(raw) and raw[-1] % 4 == 3
    amounts, units = (LARGE, LARGE_UNITS) if large else (AMOUNTS, UNITS)
    for number in range(size):
        drawn = _Bytes(raw[number * _ROW : (number + 1) * _ROW])
        known += drawn.pick(GAPS)
        lag = drawn.pick(LAGS)
        offset += drawn.pick((1, 1, 1, 2, 7))
        name = f"{number}\N{LATIN SMALL LETTER E WITH ACUTE}"
        small = drawn.number(3) / 8
        rows.append(
            {
                "id": name,
                "at": known - lag,
                "place": drawn.pick(PLACES),
                "site": drawn.pick(SITES),
                "amount": drawn.amount(amounts),
                "small": drawn.pick((None, small, small, 1.0)),
                "units": drawn.pick(units),
                "level": drawn.number(6) if number % 3 else 1,
                "flag": drawn.pick((None, True, False)),
                "_offset": offset,
                "_known_time": known,
                "_event_time": min(known - lag, known),
                "_id": name,
                "_tie": event_tie(name),
                "_too_late": lag > LATENESS,
            }
        )
    return rows
