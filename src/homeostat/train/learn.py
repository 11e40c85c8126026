"""Learns a model's declared transforms from its training rows, and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homeostat.declare.chains import chain_of
from homeostat.declare.models import Model
from homeostat.declare.transforms import Transform
from homeostat.train.dataset import Sample
from homeostat.train.encoding import Encoding, JoinedEncoding
from homeostat.train.inputs import Inputs
from homeostat.train.learn_encodings import learn_encoding
from homeostat.train.learn_steps import learn_step
from homeostat.train.steps import Chain, Step, is_final

__all__ = ["Learned", "learn"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What was learned, and the training rows' own columns, float64 (n, inputs.width).

    `matrix` is what the estimator learns from: `inputs.matrix` of the training rows, save that no
    row is encoded from its own label.
    """

    inputs: Inputs
    matrix: Floats


def learn(model: Model, train: Sample) -> Learned:
    """Learn every transform of a model, feature by feature, each from the outcome of the last.

    Args:
        model: the declaration; its features, transforms and seed.
        train: the training rows. There is no other argument to learn from.

    Returns:
        The inputs, and the training rows' columns.
    """
    names = model.feature_names()
    encodings: dict[str, Encoding] = {}
    chains: dict[str, tuple[Chain, ...]] = {}
    columns: list[Floats] = []
    for place, name in enumerate(names):
        is_text = name in train.features.categories
        declared = chain_of(model.transforms, name, is_text)
        marks: tuple[bool, ...] = (False,)
        encoded = train.features.matrix[:, [place]]
        if is_text:
            encoders = [t for t in declared if "text" in t.takes]
            declared = declared[len(encoders) :]
            encodings[name], encoded = _encoded(encoders, name, train, model.seed)
            marks = encodings[name].marks
        found: list[Chain] = []
        for mark, column in zip(marks, encoded.T, strict=True):
            if mark or not declared:
                columns.append(column[:, None])
            else:
                chain, after = _chain(declared, column, train, model.seed)
                found.append(chain)
                columns.append(after)
        if found:
            chains[name] = tuple(found)
    return Learned(
        Inputs(names, encodings, chains), np.ascontiguousarray(np.concatenate(columns, axis=1))
    )


def _encoded(
    encoders: list[Transform], name: str, train: Sample, seed: int
) -> tuple[Encoding, Floats]:
    parts, columns = zip(*(learn_encoding(t, name, train, seed) for t in encoders), strict=True)
    if len(parts) == 1:
        return parts[0], columns[0]
    return JoinedEncoding(parts), np.concatenate(columns, axis=1)


def _chain(
    declared: list[Transform], values: Floats, train: Sample, seed: int
) -> tuple[Chain, Floats]:
    """Return the steps of one column, and what they leave of the training rows: value, marks."""
    steps: list[Step] = []
    marks: list[Floats] = []
    for transform in declared:
        step, values, found = learn_step(transform, values, train.labels, seed)
        steps.append(step)
        if found is not None:
            marks.append(found)
    kept = [] if is_final(steps[-1]) else [values[:, None]]
    return tuple(steps), np.concatenate([*kept, *marks], axis=1)
