"""Events dealt out to buckets of entities, so that each bucket fits into the processor's cache.

Chunks of the log are dealt one after the other, each in one pass: what is gathered is near, what
is written is in order. A bucket is then the pieces of all chunks, in the order of the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from homeostat.aggregate.arrays import Ints

__all__ = ["Buckets", "Plan"]

ROWS = 1 << 16
"""Events and questions of a bucket, unless one entity alone has more."""


class Plan:
    """Which bucket each entity belongs to: neighbours share one.

    `weights` says how many rows each entity, numbered from 0, has to do with.
    """

    def __init__(self, weights: Ints) -> None:
        level = np.maximum(np.cumsum(weights) - 1, 0) // ROWS
        bucket = np.cumsum(np.diff(level, prepend=level[:1]) > 0)
        self.count = int(bucket[-1]) + 1 if len(bucket) else 1
        self.first = np.searchsorted(bucket, np.arange(self.count + 1))
        self._bucket = bucket

    def rounds(self, weights: Ints, most: int | None) -> Iterator[range]:
        """Yield runs of buckets that have at most so many rows, unless one alone has more."""
        sums = np.concatenate(([0], np.cumsum(weights)))[self.first]
        begin = 0
        while begin < self.count:
            end = self.count
            if most is not None:
                end = int(np.searchsorted(sums, sums[begin] + most, side="right")) - 1
                end = min(max(end, begin + 1), self.count)
            yield range(begin, end)
            begin = end

    def deal(self, entity: npt.NDArray[Any]) -> tuple[Ints, Ints]:
        """Return the order of rows by bucket, stable, and where each bucket begins in it."""
        from homeostat.aggregate.kernel import grouped

        order, cuts = grouped(self._bucket[entity], self.count)
        return order, cuts


class Buckets:
    """Arrays of up to `n` events, dealt by entity."""

    def __init__(self, plan: Plan, n: int) -> None:
        self._plan, self._n, self._used = plan, n, 0
        self._arrays: dict[Any, Any] = {}
        self._parts: list[tuple[list[int], Mapping[Any, Any]]] = []

    def add(self, entity: npt.NDArray[Any], arrays: Mapping[Any, Any]) -> None:
        """Deal the next events of the log; `arrays` has one value per event and name.

        One array under two names is dealt once.
        """
        order, cuts = self._plan.deal(entity)
        end = self._used + len(order)
        names: dict[Any, Any] = {}
        dealt: dict[int, Any] = {}
        for name, values in {"entity": entity, **arrays}.items():
            names[name] = dealt.setdefault(id(values), name)
            if names[name] == name:
                if name not in self._arrays:
                    self._arrays[name] = np.empty(self._n, values.dtype)
                np.take(values, order, out=self._arrays[name][self._used : end], mode="clip")
        self._parts.append(((cuts + self._used).tolist(), names))
        self._used = end

    def bucket(self, number: int) -> dict[Any, Any]:
        """Return the arrays of one bucket, sorted by entity and within each as in the log.

        The entity counts from the first of the bucket.
        """
        pieces = [(slice(*cuts[number : number + 2]), names) for cuts, names in self._parts]
        from homeostat.aggregate.kernel import grouped

        first, end = self._plan.first[number : number + 2].tolist()
        entity = self._joined("entity", pieces).astype(np.int64) - first
        order, cuts = grouped(entity, end - first)
        found: dict[Any, Any] = {"entity": np.repeat(np.arange(end - first), np.diff(cuts))}
        for name in pieces[0][1]:
            if name not in found:
                other = {names[name] for _, names in pieces}
                same = found.get(other.pop()) if len(other) == 1 else None
                found[name] = np.take(self._joined(name, pieces), order) if same is None else same
        return found

    def _joined(self, name: Any, pieces: Sequence[tuple[slice, Mapping[Any, Any]]]) -> Any:
        return np.concatenate([self._arrays[names[name]][piece] for piece, names in pieces])
