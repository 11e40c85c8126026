"""Columns together: which are missing in the same rows, and which say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl

from homeostat.aggregate.arrays import Floats
from homeostat.features.profile_columns import numbers_of

__all__ = ["MissingPattern", "NearDuplicate", "missing_patterns", "near_duplicates", "picked"]

PATTERNS = 10
SAMPLE = 20_000
"""Pairs are compared on at most so many rows, evenly spaced; equality is checked on all."""

ALIKE = 0.98
"""Rank correlation from which two columns of numbers are near-duplicates."""

NUMERIC = ("integer", "float", "timestamp")


@dataclass(frozen=True, slots=True)
class MissingPattern:
    """Columns that are missing in the same rows, no other column being missing there."""

    columns: tuple[str, ...]
    rows: int
    share: float


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two columns of which one would do.

    `relation` is `equal`, `one_to_one` (each value of one goes with one value of the other) or
    `rank_correlated`; `strength` is the correlation of their ranks, and 1 for the others.
    """

    columns: tuple[str, str]
    relation: str
    strength: float


def missing_patterns(frame: pl.DataFrame) -> tuple[MissingPattern, ...]:
    """Return the most frequent combinations of missing columns; rows without any are left out."""
    holes = [name for name in frame.columns if frame[name].null_count()]
    if not holes:
        return ()
    flags = frame.select(pl.col(holes).is_null()).group_by(holes).len(name="_rows")
    found = [
        MissingPattern(
            tuple(name for name, is_missing in zip(holes, row, strict=False) if is_missing),
            row[-1],
            row[-1] / frame.height,
        )
        for row in flags.filter(pl.any_horizontal(holes)).iter_rows()
    ]
    return tuple(sorted(found, key=lambda p: (-p.rows, p.columns))[:PATTERNS])


def near_duplicates(
    frame: pl.DataFrame, kinds: Mapping[str, str], distinct: Mapping[str, int]
) -> tuple[NearDuplicate, ...]:
    """Return the pairs of columns that say nearly the same, each pair once.

    Args:
        frame: the columns; NaN must be null already.
        kinds: the kind of each column.
        distinct: the number of different values of each; constant columns are left out.
    """
    names = [name for name in frame.columns if distinct[name] > 1]
    if not names:
        return ()
    sample = frame.select(names)[picked(frame.height, SAMPLE)]
    found: dict[tuple[str, str], NearDuplicate] = {}
    for pair in _equal(frame, names, kinds, distinct):
        found[pair] = NearDuplicate(pair, "equal", 1.0)
    for pair in _one_to_one(sample, names):
        found.setdefault(pair, NearDuplicate(pair, "one_to_one", 1.0))
    for pair, strength in _correlated(sample, [n for n in names if kinds[n] in NUMERIC]):
        found.setdefault(pair, NearDuplicate(pair, "rank_correlated", strength))
    return tuple(found[pair] for pair in sorted(found))


def picked(rows: int, most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return at most `most` row numbers, evenly spaced."""
    return np.linspace(0, max(rows - 1, 0), min(rows, most), dtype=np.int64)


def _equal(
    frame: pl.DataFrame, names: Sequence[str], kinds: Mapping[str, str], distinct: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    sort = {n: "number" if kinds[n] in ("integer", "float") else kinds[n] for n in names}
    for left, right in combinations(names, 2):
        may_be = sort[left] == sort[right] and distinct[left] == distinct[right]
        if may_be and frame[left].eq_missing(frame[right]).all():
            yield left, right


def _one_to_one(sample: pl.DataFrame, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield pairs whose values go together; columns of mostly different values prove nothing."""
    codes = {
        name: sample[name].rank("dense").fill_null(0).to_numpy().astype(np.int64) for name in names
    }
    sizes = {name: len(np.unique(code)) for name, code in codes.items()}
    for left, right in combinations(names, 2):
        if 1 < sizes[left] == sizes[right] <= sample.height / 4:
            joint = codes[left] * (sample.height + 1) + codes[right]
            if len(np.unique(joint)) == sizes[left]:
                yield left, right


def _correlated(
    sample: pl.DataFrame, names: Sequence[str]
) -> Iterator[tuple[tuple[str, str], float]]:
    if len(names) < 2 or sample.height < 3:
        return
    ranks = np.stack([_standard_ranks(sample[name]) for name in names])
    correlations = ranks @ ranks.T
    for left, right in combinations(range(len(names)), 2):
        strength = float(correlations[left, right])
        if abs(strength) >= ALIKE:
            yield (names[left], names[right]), strength


def _standard_ranks(column: pl.Series) -> Floats:
    """Return ranks of length 1 around 0, float64 (n,); missing counts as the middle."""
    ranks = numbers_of(column.rank("average"))
    ranks -= np.nanmean(ranks) if not np.isnan(ranks).all() else 0.0
    ranks[np.isnan(ranks)] = 0.0
    length = float(np.sqrt((ranks * ranks).sum()))
    scaled: Floats = ranks / length if length > 0 else ranks
    return scaled
