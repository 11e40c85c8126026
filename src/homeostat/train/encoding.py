"""Categories as numbers: learned from the training rows, kept as plain data, applied at serving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import HomeostatError
from homeostat.features.assemble import Features

__all__ = ["CategoryEncoding", "FeaturesRefused", "encode"]

Floats = NDArray[np.float64]


class FeaturesRefused(HomeostatError, ValueError):
    """Features that the model was not made for."""


@dataclass(frozen=True, slots=True)
class CategoryEncoding:
    """The number of each category, of a missing one, and of one that training never saw.

    >>> CategoryEncoding({"EWR": 0.2, "JFK": 0.1}, missing=0.3, unseen=0.15).code("LGA")
    0.15
    """

    codes: Mapping[str, float]
    missing: float
    unseen: float

    def code(self, category: str | None) -> float:
        """Return the number of one category; None is missing."""
        return self.missing if category is None else self.codes.get(category, self.unseen)

    def column(self, categories: Sequence[str | None]) -> Floats:
        """Return the numbers of n categories, float64[n]."""
        return np.fromiter(map(self.code, categories), np.float64, len(categories))


def encode(
    features: Features, names: Sequence[str], encodings: Mapping[str, CategoryEncoding]
) -> Floats:
    """Return the model's input: the features with every category replaced by its number.

    Args:
        features: matrix float64 (n, F) with NaN at categorical columns, and the categories.
        names: the F feature names, in the order of the columns.
        encodings: one encoding per categorical feature.

    Returns:
        float64 (n, F), a new array if there are categories.

    Raises:
        FeaturesRefused: another width, or other categorical features, than the encodings know.
    """
    matrix = features.matrix
    if matrix.ndim != 2 or matrix.shape[1] != len(names):
        raise FeaturesRefused(
            f"features: got shape {list(matrix.shape)}; allowed: [n, {len(names)}] in the order "
            f"{', '.join(names)}; assemble them with the model's own feature plan."
        )
    if features.categories.keys() != encodings.keys():
        raise FeaturesRefused(
            f"features: got categories of {_listed(features.categories)}; allowed: exactly "
            f"{_listed(encodings)}; assemble them with the model's own feature plan."
        )
    if not encodings:
        return matrix
    encoded = matrix.copy()
    for name, categories in features.categories.items():
        encoded[:, names.index(name)] = encodings[name].column(categories)
    return encoded


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "no feature"
