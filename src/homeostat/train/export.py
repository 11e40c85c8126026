"""Writes a fitted model as an ONNX graph that works in float64 from the features to the score.

The graph has one input, `features: double[N, width]` (NaN is missing), and one output,
`score: double[N, 1]`: a probability for a binary classifier, the prediction otherwise. The same
model gives the same bytes.

Which operators may be used is decided by bits, not by taste. onnxruntime's `Sigmoid`, `Exp` and
`ReduceSum` round differently in the vectorised loop and in its remainder, so a row's score would
depend on its batch. `Pow` with a scalar base, `CumSum` and plain arithmetic do not, and a tree
ensemble on one thread adds its trees from first to last.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import exp, isnan
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from homeostat.train.calibration import Isotonic, Platt
from homeostat.train.ensembles import (
    LIGHTGBM_ZERO,
    Ensemble,
    ExportRefused,
    Link,
    Tree,
    View,
    from_forest,
    from_gradient_boosting,
    from_hist_gradient_boosting,
    from_lightgbm,
)

__all__ = ["Calibration", "ExportRefused", "check_supported", "export_onnx", "native_scores"]

Floats = NDArray[np.float64]
Calibration: TypeAlias = Platt | Isotonic

_OPSETS = (("", 20), ("ai.onnx.ml", 5))  # the first with a float64 TreeEnsemble
_IR_VERSION = 10
_BRANCH_LEQ, _BRANCH_MEMBER = 0, 6  # modes of TreeEnsemble

_LIGHTGBM = ("LGBMClassifier", "LGBMRanker", "LGBMRegressor")
_FORESTS = ("ExtraTreesClassifier", "ExtraTreesRegressor", "RandomForestClassifier",
            "RandomForestRegressor")  # fmt: skip
_SINGLE_TREES = ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier",
                 "ExtraTreeRegressor")  # fmt: skip
_BOOSTED = ("GradientBoostingClassifier", "GradientBoostingRegressor",
            "HistGradientBoostingClassifier", "HistGradientBoostingRegressor")  # fmt: skip
_LINEAR = ("ElasticNet", "Lasso", "LinearRegression", "LogisticRegression", "Ridge")
_BOOSTING_LINKS = {
    "log_loss": Link("logistic"),
    "squared_error": Link("identity"),
    "absolute_error": Link("identity"),
    "huber": Link("identity"),
    "quantile": Link("identity"),
    "gamma": Link("exponential"),
    "poisson": Link("exponential"),
}
_SUPPORTED = (
    "LightGBM (Booster, classifier, regressor, ranker) and scikit-learn's linear and logistic "
    "regression, decision trees, forests and gradient boosting, alone or last in a Pipeline after "
    "SimpleImputer and StandardScaler"
)


def export_onnx(model: object, calibration: Calibration | None = None) -> bytes:
    """Write a fitted binary classifier or regressor as a float64 ONNX graph.

    Args:
        model: a fitted LightGBM or scikit-learn estimator, or a Pipeline that ends in one.
        calibration: a last step inside the graph, on the model's score.

    Returns:
        The serialised graph, the same for the same model.

    Raises:
        ExportRefused: the model has a part that the graph could not score exactly.

    >>> from sklearn.linear_model import LinearRegression
    >>> line = LinearRegression().fit(np.array([[0.0], [1.0]]), np.array([1.0, 3.0]))
    >>> from homeostat.train.scoring import Scorer
    >>> Scorer(export_onnx(line)).score(np.array([[2.0]])).round(12)
    array([5.])
    """
    steps, final = _unpack(model)
    graph = _Graph()
    matrix = "features"
    for step in steps:
        matrix = _add_transform(graph, step, matrix)
    if _name(final) in _LINEAR:
        width = int(final.n_features_in_)
        score = _add_linear(graph, final, matrix)
    else:
        ensemble = _ensemble(final)
        width = ensemble.width
        score = _add_ensemble(graph, ensemble, matrix)
    if isinstance(calibration, Platt):
        score = _add_platt(graph, calibration, score)
    elif isinstance(calibration, Isotonic):
        score = _add_isotonic(graph, calibration, score)
    return graph.finish(score, width)


def native_scores(model: object, matrix: Floats) -> Floats:
    """Score rows with the fitted model itself: the other side of the parity gate.

    Args:
        model: what `export_onnx` accepts.
        matrix: float64[n, width].

    Returns:
        float64[n]: the probability of the second class, or the prediction.
    """
    steps, final = _unpack(model)
    with warnings.catch_warnings():
        # A model fitted on a frame is right to be asked with a matrix: the order is declared.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        for step in steps:
            matrix = step.transform(matrix)
        if _package(final) == "lightgbm":
            booster = final if _name(final) == "Booster" else final.booster_
            scores = booster.predict(matrix)
        elif hasattr(final, "predict_proba"):
            scores = final.predict_proba(matrix)[:, 1]
        else:
            scores = final.predict(matrix)
    return np.ravel(np.asarray(scores, np.float64))


# ---------------------------------------------------------------------- what the model is made of


def _name(part: object) -> str:
    return type(part).__name__


def _package(part: object) -> str:
    return type(part).__module__.partition(".")[0]


def _refuse(part: object, found: str, allowed: str = _SUPPORTED) -> ExportRefused:
    next_step = "declare the estimator so"
    if allowed == _SUPPORTED:
        next_step = "declare an estimator of one of these kinds, not of a class made from one"
    return ExportRefused(f"export of {_package(part)}'s {_name(part)}", found, allowed, next_step)


def check_supported(model: object) -> str:
    """Return the package of the last estimator; raise `ExportRefused` if no graph scores as it.

    The estimator need not be fitted.
    """
    return _package(_parts(model)[1])


def _unpack(model: Any) -> tuple[list[Any], Any]:
    """Return the transforms before the last estimator, and that estimator, known and fitted."""
    steps, model = _parts(model)
    for part in (*steps, model):
        if _name(part) != "Booster" and getattr(part, "n_features_in_", None) is None:
            raise _refuse(part, "it is not fitted", "a fitted model")
    return steps, model


def _parts(model: Any) -> tuple[list[Any], Any]:
    """Return the transforms before the last estimator, and that estimator, known by their names."""
    steps: list[Any] = []
    if (_package(model), _name(model)) == ("sklearn", "Pipeline"):
        # "passthrough" and None stand for no step
        steps = [s for _, s in model.steps[:-1] if s is not None and s != "passthrough"]
        model = model.steps[-1][1]
    known = {
        "lightgbm": ("Booster", *_LIGHTGBM),
        "sklearn": (*_LINEAR, *_FORESTS, *_SINGLE_TREES, *_BOOSTED),
    }
    # Exact names: a subclass may predict otherwise.
    if _name(model) not in known.get(_package(model), ()):
        raise _refuse(model, "no exact translation is known for it")
    return steps, model


def _ensemble(model: Any) -> Ensemble:
    name = _name(model)
    if _package(model) == "lightgbm":
        booster = model if name == "Booster" else model.booster_
        return from_lightgbm(booster.model_to_string())
    _require_one_output(model)
    if name in _BOOSTED:
        link = _BOOSTING_LINKS.get(model.loss)
        if link is None:
            raise _refuse(model, f"loss {model.loss!r}", ", ".join(sorted(_BOOSTING_LINKS)))
        if not name.startswith("Hist"):
            if model.init is not None and model.init != "zero":
                raise _refuse(model, "it starts from another estimator", "init=None or 'zero'")
            return from_gradient_boosting(model, link)
        if model.is_categorical_ is not None and any(model.is_categorical_):
            raise _refuse(model, "it splits on categories", "numeric features")
        return from_hist_gradient_boosting(model, link)
    trees = [model] if name in _SINGLE_TREES else list(model.estimators_)
    return from_forest(trees, model.n_features_in_, output=int(hasattr(model, "classes_")))


def _require_one_output(model: Any) -> None:
    if getattr(model, "n_outputs_", 1) != 1:
        raise _refuse(model, f"{model.n_outputs_} outputs", "one output")
    if hasattr(model, "classes_") and len(model.classes_) != 2:
        raise _refuse(model, f"{len(model.classes_)} classes", "two classes")


# ------------------------------------------------------------------------------ the graph's parts


class _Graph:
    """Nodes and constants with numbered names, so that equal models give equal bytes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def constant(self, values: object, dtype: type = np.float64) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def finish(self, score: str, width: int) -> bytes:
        from onnx import TensorProto, checker, helper

        written_by = {node.output[0]: node for node in self.nodes}
        written_by[score].output[0] = "score"
        graph = helper.make_graph(
            self.nodes,
            "homeostat",
            [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["N", width])],
            [helper.make_tensor_value_info("score", TensorProto.DOUBLE, ["N", 1])],
            initializer=self.constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="homeostat"
        )
        checker.check_model(model)
        serialised: bytes = model.SerializeToString(deterministic=True)
        return serialised


def _add_transform(graph: _Graph, step: Any, matrix: str) -> str:
    if (_package(step), _name(step)) == ("sklearn", "StandardScaler"):
        if step.mean_ is not None and step.with_mean:
            matrix = graph.add("Sub", matrix, graph.constant(step.mean_))
        if step.scale_ is not None:
            matrix = graph.add("Div", matrix, graph.constant(step.scale_))
        return matrix
    if (_package(step), _name(step)) == ("sklearn", "SimpleImputer"):
        missing = step.missing_values
        fill = np.asarray(step.statistics_, np.float64)
        if not (isinstance(missing, float) and isnan(missing)) or np.isnan(fill).any():
            raise _refuse(step, "it drops columns or fills another value than NaN", "NaN filled")
        if step.indicator_ is not None:
            raise _refuse(step, "it adds indicator columns", "add_indicator=False")
        return graph.add("Where", graph.add("IsNaN", matrix), graph.constant(fill), matrix)
    raise _refuse(step, "no exact translation is known for it")


def _add_linear(graph: _Graph, model: Any, matrix: str) -> str:
    _require_one_output(model)
    coefficients = np.atleast_2d(np.asarray(model.coef_, np.float64))
    if len(coefficients) != 1:
        raise _refuse(model, f"{len(coefficients)} outputs", "one output")
    products = graph.add("Mul", matrix, graph.constant(coefficients))
    sums = graph.add("CumSum", products, graph.constant(1, np.int64))
    last = graph.constant([coefficients.shape[1] - 1], np.int64)
    total = graph.add("Gather", sums, last, axis=1)
    raw = graph.add("Add", total, graph.constant(np.ravel(model.intercept_)))
    return _add_logistic(graph, raw) if hasattr(model, "classes_") else raw


def _add_ensemble(graph: _Graph, ensemble: Ensemble, matrix: str) -> str:
    if ensemble.narrow:
        from onnx import TensorProto

        matrix = graph.add("Cast", matrix, to=TensorProto.FLOAT)
        matrix = graph.add("Cast", matrix, to=TensorProto.DOUBLE)
    views = sorted({View(view) for tree in ensemble.trees for view in np.unique(tree.view)})
    views = views or [View.VALUE]
    columns = [_add_view(graph, view, matrix) for view in views]
    matrix = graph.add("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]
    offsets = np.zeros(len(View), np.int64)
    offsets[views] = np.arange(len(views)) * ensemble.width
    raw = _add_trees(graph, ensemble.trees, offsets, matrix)
    if ensemble.divisor != 1.0:
        raw = graph.add("Div", raw, graph.constant([ensemble.divisor]))
    if ensemble.link.scale != 1.0:
        raw = graph.add("Mul", raw, graph.constant([ensemble.link.scale]))
    match ensemble.link.kind:
        case "logistic":
            return _add_logistic(graph, raw)
        case "exponential":
            return graph.add("Pow", graph.constant([exp(1.0)]), raw)
        case "signed_square":
            return graph.add("Mul", graph.add("Abs", raw), raw)
        case "identity":
            return raw


def _add_view(graph: _Graph, view: View, matrix: str) -> str:
    if view is View.ZERO_IS_MISSING:
        size = graph.add("Abs", matrix)
        is_zero = graph.add("LessOrEqual", size, graph.constant([LIGHTGBM_ZERO]))
        return graph.add("Where", is_zero, graph.constant([np.nan]), matrix)
    if view is View.TRUNCATED:
        size = graph.add("Floor", graph.add("Abs", matrix))
        return graph.add("Mul", graph.add("Sign", matrix), size)
    return matrix


def _add_trees(
    graph: _Graph, trees: Sequence[Tree], offsets: NDArray[np.int64], matrix: str, targets: int = 1
) -> str:
    """Add a TreeEnsemble; tree i adds to target i % targets."""
    from onnx import numpy_helper

    parts: dict[str, list[NDArray[Any]]] = {
        key: []
        for key in ("feature", "mode", "split", "yes", "yes_leaf", "no", "no_leaf", "missing")
    }
    roots, leaves, target_ids, members = [], [], [], []
    splits, leaf_count = 0, 0
    for i, tree in enumerate(trees):
        size = max(1, len(tree.feature))
        mode = np.full(size, _BRANCH_LEQ, np.uint8)
        if len(tree.feature):
            feature, split = tree.feature + offsets[tree.view], tree.threshold
            missing, left, right = tree.missing_left, tree.left, tree.right
        else:  # one leaf: a split whose two sides are that leaf
            feature, split = np.zeros(1, np.int64), np.zeros(1)
            missing, left, right = np.zeros(1, np.bool_), np.array([-1]), np.array([-1])
        for at, codes in tree.members:
            mode[at] = _BRANCH_MEMBER
            members.append(np.array([*codes, np.nan], np.float64))
        parts["feature"].append(feature)
        parts["mode"].append(mode)
        parts["split"].append(split)
        parts["missing"].append(missing)
        for side, child in (("yes", left), ("no", right)):
            parts[side].append(np.where(child < 0, ~child + leaf_count, child + splits))
            parts[f"{side}_leaf"].append(child < 0)
        roots.append(splits)
        leaves.append(tree.leaf)
        target_ids.append(np.full(len(tree.leaf), i % targets))
        splits, leaf_count = splits + size, leaf_count + len(tree.leaf)

    def whole(arrays: list[NDArray[Any]]) -> list[int]:
        numbers: list[int] = np.concatenate(arrays).astype(np.int64).tolist()
        return numbers

    def tensor(name: str, arrays: list[NDArray[Any]], dtype: type) -> Any:
        return numpy_helper.from_array(np.concatenate(arrays).astype(dtype), name)

    optional = {}
    if members:
        optional["membership_values"] = tensor("members", members, np.float64)
    return graph.add(
        "TreeEnsemble",
        matrix,
        domain="ai.onnx.ml",
        n_targets=targets,
        aggregate_function=1,  # sum
        post_transform=0,  # none: the others compute in float32
        tree_roots=roots,
        nodes_featureids=whole(parts["feature"]),
        nodes_modes=tensor("modes", parts["mode"], np.uint8),
        nodes_splits=tensor("splits", parts["split"], np.float64),
        nodes_truenodeids=whole(parts["yes"]),
        nodes_trueleafs=whole(parts["yes_leaf"]),
        nodes_falsenodeids=whole(parts["no"]),
        nodes_falseleafs=whole(parts["no_leaf"]),
        nodes_missing_value_tracks_true=whole(parts["missing"]),
        leaf_targetids=whole(target_ids),
        leaf_weights=tensor("leaves", leaves, np.float64),
        **optional,
    )


def _add_logistic(graph: _Graph, raw: str) -> str:
    """Add 1 / (1 + exp(-raw)), with exp(-raw) as (1/e) ** raw: `Exp` depends on the batch.

    The float64 nearest to 1/e is 3.4e-17 of its value away, so the power is off by that times raw.
    """
    power = graph.add("Pow", graph.constant([exp(-1.0)]), raw)
    return graph.add("Reciprocal", graph.add("Add", power, graph.constant([1.0])))


def _add_platt(graph: _Graph, platt: Platt, score: str) -> str:
    scaled = graph.add("Mul", score, graph.constant([platt.slope]))
    return _add_logistic(graph, graph.add("Add", scaled, graph.constant([platt.intercept])))


def _add_isotonic(graph: _Graph, isotonic: Isotonic, score: str) -> str:
    """Look the score's segment up in a tree; there, the value is y0 + slope * (score - x0)."""
    x, y = np.array(isotonic.x), np.array(isotonic.y)
    slope = np.concatenate([[0.0], np.diff(y) / np.diff(x), [0.0]])
    starts = np.concatenate([[0], np.arange(len(x))])
    # score < x as score <= the float before x
    bounds = np.nextafter(x, -np.inf)
    lookups = [_lookup(bounds, leaf) for leaf in (x[starts], y[starts], slope)]
    offsets = np.zeros(len(View), np.int64)
    segment = _add_trees(graph, lookups, offsets, score, targets=len(lookups))
    x0, y0, rise = (
        graph.add("Gather", segment, graph.constant([i], np.int64), axis=1) for i in range(3)
    )
    return graph.add("Add", graph.add("Mul", rise, graph.add("Sub", score, x0)), y0)


def _lookup(bounds: Floats, leaf: Floats) -> Tree:
    """Return the balanced tree that gives leaf[i] for the first i with value <= bounds[i]."""
    split: list[int] = []
    left: list[int] = []
    right: list[int] = []

    def build(low: int, high: int) -> int:
        """Cover leaves low..high; return the child number of their subtree."""
        if low == high:
            return ~low
        at, middle = len(split), (low + high) // 2
        split.append(middle)
        left.append(0)
        right.append(0)
        left[at] = build(low, middle)
        right[at] = build(middle + 1, high)
        return at

    build(0, len(bounds))
    size = len(split)
    return Tree(
        feature=np.zeros(size, np.int64),
        threshold=bounds[split],
        left=np.array(left, np.int64),
        right=np.array(right, np.int64),
        missing_left=np.zeros(size, np.bool_),
        view=np.zeros(size, np.int8),
        leaf=leaf,
    )
