"""From a model's features to the columns its estimator sees, and from columns back to features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from homeostat.features.assemble import Features
from homeostat.train.encoding import CategoryEncoding, Encoding, FeaturesRefused
from homeostat.train.steps import Apply, Chain, Step, is_final, prepare

__all__ = ["Inputs"]

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Lane:
    """Columns whose chains have the same kinds of steps, worked on together.

    `taken` are their places among the encoded columns, `kept` those of their values in the result
    (none if only marks are left), `steps` what is applied and where its marks go.
    """

    taken: Places
    kept: Places
    steps: tuple[tuple[Apply, Places], ...]


@dataclass(frozen=True)
class Inputs:
    """What training learned about a model's features, applied alike in training and serving.

    `encodings` has every text feature. `chains` has the features whose numbers are transformed:
    one chain for a number, and for a text one per column of its encoding. The other columns are
    taken as they are. The columns of a feature are beside each other: each number, then its marks.

    >>> from homeostat.train.steps import Imputed
    >>> inputs = Inputs(("x", "y"), {}, {"x": ((Imputed(0.0, True),),)})
    >>> inputs.matrix(Features(np.array([[np.nan, 7.0]]), {}))
    array([[0., 1., 7.]])
    """

    names: tuple[str, ...]
    encodings: Mapping[str, Encoding]
    chains: Mapping[str, tuple[Chain, ...]]

    @property
    def width(self) -> int:
        """The number of columns."""
        return self._spans[-1][1]

    def matrix(self, features: Features) -> Floats:
        """Return the estimator's input; the given features are left as they are.

        Args:
            features: matrix float64 (n, F) with NaN at text columns, and the texts.

        Returns:
            float64 (n, width).

        Raises:
            FeaturesRefused: another width, or other text features, than these inputs know.
        """
        self._check(features)
        encoded = self._encoded(features)
        if not self.chains:
            return encoded
        matrix = np.empty((len(encoded), self.width))
        plain, places = self._plain
        matrix[:, places] = encoded[:, plain]
        with np.errstate(over="ignore", invalid="ignore"):  # infinities stay infinite or missing
            for lane in self._lanes:
                values = encoded[:, lane.taken]
                for apply, marked in lane.steps:
                    values, marks = apply(values)
                    if marks is not None:
                        matrix[:, marked] = marks
                if len(lane.kept):
                    matrix[:, lane.kept] = values
        return matrix

    def by_feature(self, parts: Floats) -> Floats:
        """Return the sums over each feature's columns; columns beyond the input stay as they are.

        Args:
            parts: float64 (n, width + k), for instance contributions with their base value.

        Returns:
            float64 (n, F + k).
        """
        if self.width == len(self.names):
            return parts
        summed = np.zeros((len(parts), len(self.names)))
        for feature, (begin, end) in enumerate(self._spans):
            for column in range(begin, end):  # one by one: the bits of a sum of few are fixed
                summed[:, feature] += parts[:, column]
        return np.concatenate([summed, parts[:, self.width :]], axis=1)

    # ------------------------------------------------------------------------------ encoding

    def _check(self, features: Features) -> None:
        shape = features.matrix.shape
        if len(shape) != 2 or shape[1] != len(self.names):
            raise FeaturesRefused(
                f"features: got shape {list(shape)}; allowed: [n, {len(self.names)}] in the order "
                f"{', '.join(self.names)}; assemble them with the model's own feature plan."
            )
        if features.categories.keys() != self.encodings.keys():
            raise FeaturesRefused(
                f"features: got categories of {_listed(features.categories)}; allowed: exactly "
                f"{_listed(self.encodings)}; assemble them with the model's own feature plan."
            )

    @cached_property
    def _sources(self) -> tuple[tuple[int, int], ...]:
        """Where each feature begins and ends among the encoded columns."""
        marks = (self.encodings[n].marks if n in self.encodings else (False,) for n in self.names)
        ends = np.cumsum([0, *map(len, marks)]).tolist()
        return tuple(pairwise(ends))

    @cached_property
    def _numbers(self) -> tuple[Places, Places]:
        """The places of the number features among the features, and among the encoded columns."""
        taken = [i for i, name in enumerate(self.names) if name not in self.encodings]
        return np.array(taken, np.intp), np.array([self._sources[i][0] for i in taken], np.intp)

    def _encoded(self, features: Features) -> Floats:
        """Return all features as columns, before any chain, float64 (n, encoded columns)."""
        if not self.encodings:
            return features.matrix
        width = self._sources[-1][1]
        if width == len(self.names):
            encoded = features.matrix.copy()
        else:
            encoded = np.empty((len(features.matrix), width))
            taken, places = self._numbers
            encoded[:, places] = features.matrix[:, taken]
        for name, (begin, end) in self._texts:
            encoding, texts = self.encodings[name], features.categories[name]
            if isinstance(encoding, CategoryEncoding):
                encoded[:, begin] = encoding.column(texts)
            else:
                encoded[:, begin:end] = encoding.matrix(texts)
        return encoded

    @cached_property
    def _texts(self) -> tuple[tuple[str, tuple[int, int]], ...]:
        spans = zip(self.names, self._sources, strict=True)
        return tuple((name, span) for name, span in spans if name in self.encodings)

    # -------------------------------------------------------------------------------- chains

    def _chain_of_columns(self) -> Iterator[tuple[int, int, Chain]]:
        """Yield feature, encoded column and chain of each, in the order of the columns."""
        for feature, (name, (begin, end)) in enumerate(zip(self.names, self._sources, strict=True)):
            marks = self.encodings[name].marks if name in self.encodings else (False,)
            chains = iter(self.chains.get(name, ()))
            for column in range(begin, end):
                chain = () if marks[column - begin] else next(chains, ())
                yield feature, column, chain

    @cached_property
    def _spans(self) -> tuple[tuple[int, int], ...]:
        """Where each feature begins and ends among the columns of the result."""
        widths = [0] * len(self.names)
        for feature, _, chain in self._chain_of_columns():
            widths[feature] += _width(chain)
        ends = np.cumsum([0, *widths]).tolist()
        return tuple(pairwise(ends))

    @cached_property
    def _plain(self) -> tuple[Places, Places]:
        """The encoded columns that are taken as they are, and their places in the result."""
        taken, places, at = [], [], 0
        for _, column, chain in self._chain_of_columns():
            if not chain:
                taken.append(column)
                places.append(at)
            at += _width(chain)
        return np.array(taken, np.intp), np.array(places, np.intp)

    @cached_property
    def _lanes(self) -> tuple[_Lane, ...]:
        groups: dict[tuple[object, ...], list[tuple[int, int, Chain]]] = {}
        at = 0
        for _, column, chain in self._chain_of_columns():
            if chain:
                alike = tuple((type(step), getattr(step, "mark", None)) for step in chain)
                groups.setdefault(alike, []).append((column, at, chain))
            at += _width(chain)
        return tuple(map(_lane, groups.values()))


def _width(chain: Chain) -> int:
    return _values(chain) + sum(step.marks for step in chain)


def _values(chain: Chain) -> int:
    """Return 1 if the chain leaves a number, 0 if it leaves only marks."""
    return 0 if chain and is_final(chain[-1]) else 1


def _lane(members: list[tuple[int, int, Chain]]) -> _Lane:
    """Return the lane of columns given as (encoded column, first place in the result, chain)."""
    free = [at + _values(chain) for _, at, chain in members]
    steps: list[tuple[Apply, Places]] = []
    for same in zip(*(chain for _, _, chain in members), strict=True):
        kinds: tuple[Step, ...] = same
        places: list[int] = []
        for member, step in enumerate(kinds):
            places.extend(range(free[member], free[member] + step.marks))
            free[member] += step.marks
        steps.append((prepare(kinds), np.array(places, np.intp)))
    return _Lane(
        taken=np.array([column for column, _, _ in members], np.intp),
        kept=np.array([at for _, at, chain in members if _values(chain)], np.intp),
        steps=tuple(steps),
    )


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "no feature"
