"""Fitted tree ensembles as plain columns, read from LightGBM and scikit-learn without loss.

The readers follow what each library does at prediction time, not what its training says:

- LightGBM turns every |value| <= float32(1e-35) into zero before it compares, treats NaN as zero
  where a split saw no missing values, and rounds nothing else.
- scikit-learn's trees compare the float32 of a value with a float64 threshold; its histogram
  gradient boosting compares float64 with float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import HomeostatError

__all__ = [
    "Ensemble",
    "ExportRefused",
    "Link",
    "Tree",
    "View",
    "from_forest",
    "from_gradient_boosting",
    "from_hist_gradient_boosting",
    "from_lightgbm",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# LightGBM's kZeroThreshold, a float32 constant that it compares as float64.
LIGHTGBM_ZERO = float(np.float32(1e-35))


class ExportRefused(HomeostatError):
    """A model cannot be written as a graph that scores as it does."""

    def __init__(self, where: str, found: str, allowed: str, next_step: str) -> None:
        self.where, self.found, self.allowed, self.next_step = where, found, allowed, next_step
        super().__init__(f"{where}: {found}; allowed: {allowed}; {next_step}.")


class View(IntEnum):
    """What a split looks at: the value itself, or one of two columns derived from it."""

    VALUE = 0
    ZERO_IS_MISSING = 1  # NaN where |value| <= LIGHTGBM_ZERO
    TRUNCATED = 2  # rounded towards zero, as a category code


@dataclass(frozen=True, slots=True)
class Link:
    """From the sum of the leaves to the score; `scale` multiplies the sum first."""

    kind: Literal["identity", "logistic", "exponential", "signed_square"]
    scale: float = 1.0


_IDENTITY = Link("identity")


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of k splits and m leaves; a child c >= 0 is a split, c < 0 is leaf ~c.

    `feature`, `threshold`, `left`, `right`, `missing_left` and `view` have length k, `leaf` has
    length m. A value goes left where it is <= `threshold`, or, at a split named in `members`,
    where it equals one of the codes; NaN goes left where `missing_left` says so. No split at all
    means one leaf.
    """

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: NDArray[np.bool_]
    view: NDArray[np.int8]
    leaf: Floats
    members: tuple[tuple[int, tuple[int, ...]], ...] = ()

    @classmethod
    def constant(cls, value: float) -> Tree:
        """Return a tree that is one leaf.

        >>> Tree.constant(0.5).leaf
        array([0.5])
        """
        none = np.empty(0, np.int64)
        return cls(
            feature=none,
            threshold=np.empty(0),
            left=none,
            right=none,
            missing_left=np.empty(0, np.bool_),
            view=np.empty(0, np.int8),
            leaf=np.array([value], np.float64),
        )


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Trees added from first to last in float64, over `divisor`, through `link`.

    `width` is the number of features; `narrow` says that values are rounded to float32 before any
    split sees them.
    """

    width: int
    trees: tuple[Tree, ...]
    link: Link = _IDENTITY
    divisor: float = 1.0
    narrow: bool = False


# ---------------------------------------------------------------------------------- LightGBM

# "" is a model trained with the user's own objective: its score is the plain sum.
_PLAIN_SUM = ("", "custom", "fair", "huber", "lambdarank", "mape", "quantile", "rank_xendcg",
              "regression", "regression_l1")  # fmt: skip
_LIGHTGBM_LINKS: dict[str, Link] = {
    **dict.fromkeys(_PLAIN_SUM, _IDENTITY),
    **dict.fromkeys(("binary", "cross_entropy"), Link("logistic")),
    **dict.fromkeys(("gamma", "poisson", "tweedie"), Link("exponential")),
}
_CATEGORICAL, _DEFAULT_LEFT = 1, 2  # bits of LightGBM's decision_type; the next two: missing type
_MISSING_NONE, _MISSING_ZERO = 0, 1


def from_lightgbm(text: str) -> Ensemble:
    """Read a LightGBM model from the text that `Booster.model_to_string()` returns.

    That text keeps every float64 exactly and ends at the best iteration, as `predict` does.

    Returns:
        The ensemble; its score equals `Booster.predict`.

    Raises:
        ExportRefused: several trees per iteration, linear leaves, or an unknown objective.
    """
    blocks = text.partition("\nend of trees")[0].split("\nTree=")
    header = _fields(blocks[0])
    if int(header["num_tree_per_iteration"]) != 1:
        raise ExportRefused(
            "LightGBM model",
            f"{header['num_tree_per_iteration']} trees per iteration",
            "one (binary classification, regression, ranking)",
            "declare one model per class",
        )
    trees = tuple(_lightgbm_tree(_fields(block), i) for i, block in enumerate(blocks[1:]))
    averaged = "average_output" in header and len(trees) > 0
    return Ensemble(
        width=int(header["max_feature_idx"]) + 1,
        trees=trees or (Tree.constant(0.0),),
        link=_lightgbm_link(header.get("objective", "")),
        divisor=float(len(trees)) if averaged else 1.0,
    )


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _lightgbm_link(objective: str) -> Link:
    name, *options = objective.split() or [""]
    link = _LIGHTGBM_LINKS.get(name)
    if link is None:
        raise ExportRefused(
            "LightGBM model",
            f"objective {objective!r}",
            ", ".join(sorted(filter(None, _LIGHTGBM_LINKS))),
            "declare the estimator with one of these as its objective",
        )
    if "sqrt" in options:
        return Link("signed_square")
    for option in options:
        key, _, value = option.partition(":")
        if name == "binary" and key == "sigmoid":
            return Link("logistic", float(value))
    return link


def _lightgbm_tree(fields: dict[str, str], index: int) -> Tree:
    if fields.get("is_linear", "0") != "0":
        raise ExportRefused(
            f"LightGBM tree {index}",
            "its leaves are linear models",
            "constant leaves",
            "declare the estimator with linear_tree=False",
        )
    leaf = _numbers(fields["leaf_value"])
    if int(fields["num_leaves"]) == 1:
        return Tree.constant(float(leaf[0]))
    decision = _numbers(fields["decision_type"]).astype(np.int64)
    given = _numbers(fields["threshold"])
    threshold = _without_near_zero(given)
    categorical = (decision & _CATEGORICAL) > 0
    missing = (decision >> 2) & 3
    # A split that saw nothing missing reads NaN as 0.0; the others have a default side, and a
    # category that is NaN is in no set.
    missing_left = np.where(missing == _MISSING_NONE, threshold >= 0.0, decision & _DEFAULT_LEFT)
    view = np.where(missing == _MISSING_ZERO, View.ZERO_IS_MISSING, View.VALUE)
    return Tree(
        feature=_numbers(fields["split_feature"]).astype(np.int64),
        threshold=np.where(categorical, 0.0, threshold),
        left=_numbers(fields["left_child"]).astype(np.int64),
        right=_numbers(fields["right_child"]).astype(np.int64),
        missing_left=missing_left.astype(np.bool_) & ~categorical,
        view=np.where(categorical, View.TRUNCATED, view).astype(np.int8),
        leaf=leaf,
        members=tuple(_category_sets(fields, given, np.flatnonzero(categorical))),
    )


def _numbers(text: str) -> Floats:
    return np.array([float(part) for part in text.split()], np.float64)


def _without_near_zero(threshold: Floats) -> Floats:
    """Move thresholds so that `value <= threshold` decides as LightGBM does after zeroing.

    With z = LIGHTGBM_ZERO, every value in [-z, z] counts as zero: a threshold in [0, z) admits all
    of them, a threshold in [-z, 0) none.
    """
    zero = LIGHTGBM_ZERO
    admits = (threshold >= 0.0) & (threshold < zero)
    rejects = (threshold < 0.0) & (threshold >= -zero)
    return np.select([admits, rejects], [zero, np.nextafter(-zero, -1.0)], threshold)


def _category_sets(
    fields: dict[str, str], threshold: Floats, splits: NDArray[np.intp]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield (split, codes that go left); `threshold` holds the number of the set's bit field."""
    if not len(splits):
        return
    bounds = [int(part) for part in fields["cat_boundaries"].split()]
    words = [int(part) for part in fields["cat_threshold"].split()]
    for split in splits:
        at = int(threshold[split])
        field = words[bounds[at] : bounds[at + 1]]
        codes = (
            32 * i + bit for i, word in enumerate(field) for bit in range(32) if word >> bit & 1
        )
        yield int(split), tuple(codes)


# ------------------------------------------------------------------------------ scikit-learn


def from_forest(trees: Sequence[Any], width: int, output: int) -> Ensemble:
    """Read fitted scikit-learn decision trees whose outputs are averaged.

    Args:
        trees: the fitted `DecisionTree*` or `ExtraTree*` estimators, in order.
        width: number of features.
        output: which column of a leaf's values is the score (1 for a binary classifier).
    """
    columns = tuple(_sklearn_tree(t.tree_, t.tree_.value[:, 0, output]) for t in trees)
    return Ensemble(width, columns, divisor=float(len(columns)), narrow=True)


def from_gradient_boosting(model: Any, link: Link) -> Ensemble:
    """Read a fitted scikit-learn `GradientBoosting*` with one tree per stage."""
    start = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))
    steps = (
        _sklearn_tree(stage.tree_, model.learning_rate * stage.tree_.value[:, 0, 0])
        for stage in model.estimators_[:, 0]
    )
    first = Tree.constant(float(np.ravel(start)[0]))
    return Ensemble(model.n_features_in_, (first, *steps), link=link, narrow=True)


def from_hist_gradient_boosting(model: Any, link: Link) -> Ensemble:
    """Read a fitted scikit-learn `HistGradientBoosting*` with one tree per iteration."""
    first = Tree.constant(float(np.ravel(model._baseline_prediction)[0]))
    steps = (_hist_tree(predictors[0].nodes) for predictors in model._predictors)
    return Ensemble(model.n_features_in_, (first, *steps), link=link)


class _Nodes(NamedTuple):
    """scikit-learn's numbering: splits and leaves are nodes of one table, the root is the first."""

    is_leaf: Any
    left: Any
    right: Any
    feature: Any
    threshold: Any
    missing_left: Any
    value: Any


def _sklearn_tree(tree: Any, value: Floats) -> Tree:
    return _renumbered(
        _Nodes(
            is_leaf=tree.children_left < 0,
            left=tree.children_left,
            right=tree.children_right,
            feature=tree.feature,
            threshold=tree.threshold,
            missing_left=tree.missing_go_to_left,
            value=value,
        )
    )


def _hist_tree(nodes: Any) -> Tree:
    return _renumbered(
        _Nodes(
            is_leaf=nodes["is_leaf"],
            left=nodes["left"],
            right=nodes["right"],
            feature=nodes["feature_idx"],
            threshold=nodes["num_threshold"],
            missing_left=nodes["missing_go_to_left"],
            value=nodes["value"],
        )
    )


def _renumbered(nodes: _Nodes) -> Tree:
    leaf: NDArray[np.bool_] = np.asarray(nodes.is_leaf, np.bool_)
    if leaf[0]:
        return Tree.constant(float(nodes.value[0]))
    split = ~leaf
    number = np.where(leaf, 0 - np.cumsum(leaf), np.cumsum(split) - 1)  # leaf i is ~i, split i is i
    return Tree(
        feature=np.asarray(nodes.feature, np.int64)[split],
        threshold=np.asarray(nodes.threshold, np.float64)[split],
        left=number[np.asarray(nodes.left, np.int64)[split]],
        right=number[np.asarray(nodes.right, np.int64)[split]],
        missing_left=np.asarray(nodes.missing_left, np.bool_)[split],
        view=np.zeros(int(split.sum()), np.int8),
        leaf=np.asarray(nodes.value, np.float64)[leaf],
    )
