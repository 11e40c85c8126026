"""The meaning of summaries, in plain Python: what `oracle.py` says of sums.

Nothing here is taken from the code that it judges: hashes, bins and weights are worked out anew.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from fractions import Fraction
from hashlib import blake2b
from math import ceil, floor, frexp, ldexp, nan
from typing import Any

import numpy as np

from homeostat.aggregate.summaries import Rows
from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros
from homeostat.declare.aggregations import FeatureSpec

__all__ = ["SUMMARIES", "Event", "exact", "is_beyond", "summary_value"]

Event = Mapping[str, Any]
"""One row of an events frame, instants as aware datetimes."""


def summary_value(spec: FeatureSpec, events: Sequence[Event], at: Micros) -> float:
    """Return one feature of a summary from its events, in the order of time and tie."""
    if spec.custom is not None:
        return _custom(spec, events, at)
    return SUMMARIES[spec.operation](spec, events, at)


def exact(values: Sequence[float]) -> Fraction:
    """Return a sum as the kernel means it: a float64 below 2^-22 is first rounded to a multiple
    of 2^-74, ties to even.

    >>> exact([0.5, 1, 2.0**-80])
    Fraction(3, 2)
    """
    return sum((_rounded_below(value) for value in values), Fraction(0))


def is_beyond(values: Sequence[float]) -> bool:
    """Whether a sum leaves the range in which it is exact: a value is 2^52 or more in magnitude,
    or all magnitudes together are, each cut to a multiple of 2^-10; 2^62 for whole numbers.

    >>> is_beyond([2.0**52]), is_beyond([2.0**51] * 2), is_beyond([2.0**51, 2.0**50])
    (True, True, False)
    """
    if any(abs(value) >= 2**52 for value in values):
        return True
    units = [1024 if isinstance(value, float) else 1 for value in values]
    sizes = (floor(abs(Fraction(v)) * unit) for v, unit in zip(values, units, strict=True))
    return sum(sizes) >= 2**62


def _rounded_below(value: float) -> Fraction:
    if isinstance(value, float) and abs(value) < 2.0**-22:
        return Fraction(round(Fraction(value) * 2**74), 2**74)
    return Fraction(value)


def _numbers(spec: FeatureSpec, events: Sequence[Event]) -> list[float]:
    return [float(event[str(spec.column)]) + 0.0 for event in events]


def _code(value: Any) -> int:
    """The hash of a value, from 0 to 2^62 - 1."""
    if isinstance(value, str):
        raw = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(raw, "big") // 4
    if isinstance(value, datetime):
        value = to_micros(value)
    if isinstance(value, float):
        (value,) = struct.unpack("<q", struct.pack("<d", value + 0.0))
    return _split_mix(int(value))


def _split_mix(word: int) -> int:
    size = 2**64
    bits = (word + 0x9E3779B97F4A7C15) % size
    bits = (bits ^ bits // 2**30) * 0xBF58476D1CE4E5B9 % size
    bits = (bits ^ bits // 2**27) * 0x94D049BB133111EB % size
    return (bits ^ bits // 2**31) // 4


def _last_n(spec: FeatureSpec, events: Sequence[Event], at: Micros) -> float:
    values = _numbers(spec, events)
    return values[-1 - spec.part] if spec.part < len(values) else nan


def _distinct_count(spec: FeatureSpec, events: Sequence[Event], at: Micros) -> float:
    k = int(str(spec.option["k"]))
    codes = sorted({_code(event[str(spec.column)]) for event in events})
    if len(codes) <= k:
        return float(len(codes))
    return float(round(k * 2.0**62 / (float(codes[k]) + 1.0)))


def _quantile(spec: FeatureSpec, events: Sequence[Event], at: Micros) -> float:
    shares, error = spec.option["q"], float(str(spec.option["error"]))
    bits = 0
    while 1 / (2 ** (bits + 1) + 1) > error:
        bits += 1
    values = sorted(_binned(value, bits) for value in _numbers(spec, events))
    share = Fraction(str(shares[spec.part])) if isinstance(shares, tuple) else Fraction(0)
    return values[ceil(share * len(values)) - 1] if values else nan


def _binned(value: float, bits: int) -> float:
    """The middle of the value's bin: 2^bits bins between two powers of two."""
    if abs(value) < 2.0**-74:
        return 0.0
    mantissa, exponent = frexp(abs(value))
    place = floor((mantissa * 2 - 1) * 2**bits)
    low, high = (1 + end / 2**bits for end in (place, place + 1))
    middle = ldexp(2.0 * low * high / (low + high), exponent - 1)
    return middle if value > 0 else -middle


def _top(spec: FeatureSpec, values: list[Any], events: Sequence[Event]) -> list[tuple[Any, int]]:
    """The values by their counts, of a sample if there are too many different ones."""
    capacity = int(str(spec.option["capacity"]))
    if len(set(values)) > capacity:
        ties = [event["_tie"] for event in events]
        values = [value for _, value in sorted(zip(ties, values, strict=True))[:capacity]]
    return sorted(Counter(values).items(), key=lambda found: (-found[1], found[0]))


def _top_share(spec: FeatureSpec, events: Sequence[Event], at: Micros) -> float:
    found = _top(spec, [_code(event[str(spec.column)]) for event in events], events)
    most = found[: int(str(spec.option["k"]))]
    return sum(n for _, n in most) / sum(n for _, n in found) if found else nan


def _top_values(spec: FeatureSpec, events: Sequence[Event], at: Micros) -> float:
    found = _top(spec, _numbers(spec, events), events)
    return float(found[spec.part][0]) if spec.part < len(found) else nan


def _decayed_sum(spec: FeatureSpec, events: Sequence[Event], at: Micros) -> float:
    step = int(str(spec.option["half_life"])) // 32
    ages: dict[int, list[float]] = {}
    for event, value in zip(events, _numbers(spec, events), strict=True):
        age = max(at // step - to_micros(event["_event_time"]) // step, 0)
        ages.setdefault(age, []).append(value)
    ages = {age: values for age, values in ages.items() if age <= 1024}
    if any(is_beyond(values) for values in ages.values()):
        return nan
    faded = [float(exact(v)) * _weight(age) / 2**11 for age, v in ages.items()]
    return float(exact(faded)) * 2**11 + 0.0 if faded else nan


def _weight(age: int) -> float:
    with localcontext(prec=60):
        return float(Decimal(2) ** (Decimal(-age) / 32))


def _custom(spec: FeatureSpec, events: Sequence[Event], at: Micros) -> float:
    """A summary of your own speaks for itself; what is judged is which events it is given."""
    summary = spec.custom
    if spec.column is None:
        found = np.ones(len(events))
    elif summary.reads == "code":
        found = np.array([_code(event[spec.column]) for event in events], np.int64).view(np.float64)
    else:
        found = np.array(_numbers(spec, events))
    times = np.array([to_micros(event["_event_time"]) for event in events], np.int64)
    ties = np.array([event["_tie"] for event in events], np.int64)
    values = summary.value(summary.state(Rows(times, ties, found)), at)
    return float(values[spec.part])


SUMMARIES: dict[str, Callable[[FeatureSpec, Sequence[Event], Micros], float]] = {
    "last_n": _last_n,
    "distinct_count": _distinct_count,
    "quantile": _quantile,
    "top_share": _top_share,
    "top_values": _top_values,
    "decayed_sum": _decayed_sum,
}
"""What each operation means."""
