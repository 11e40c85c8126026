"""The graph scores as the model does, on hostile rows, to the same bits in any batch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from threadpoolctl import threadpool_limits

from homeostat.core.errors import DeclarationError
from homeostat.train.calibration import Isotonic, Platt
from homeostat.train.ensembles import LIGHTGBM_ZERO, from_lightgbm
from homeostat.train.export import ExportRefused, export_onnx, native_scores
from homeostat.train.scoring import (
    GraphRefused,
    MatrixRefused,
    ParityFailed,
    Scorer,
    check_parity,
    parity,
)

Floats = NDArray[np.float64]

EPOCH = 1.6e9
ROWS = 1200
BATCHES = (1, 2, 3, 7, 64, 1000, 5000)
NASTY = (
    *(np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -5e-324, 1e-36, -1e-36, 1e300, -1e300, 3e9),
    *(
        LIGHTGBM_ZERO,
        -LIGHTGBM_ZERO,
        np.nextafter(LIGHTGBM_ZERO, 1),
        np.nextafter(-LIGHTGBM_ZERO, -1),
    ),
)
CODES = (*range(-2, 70), np.nan, 0.5, -0.5, 1.9999, 3e9, -3e9, 2.0**32 + 3, np.inf, -np.inf)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """More OpenMP threads than free cores turn milliseconds into seconds."""
    with threadpool_limits(1, user_api="openmp"):
        yield


def _history() -> tuple[Floats, Floats]:
    """Columns: plain, epoch seconds, with NaN, code, constant, half zeros."""
    rng = np.random.default_rng(7)
    matrix = np.column_stack(
        [
            rng.normal(size=ROWS),
            EPOCH + rng.integers(0, 3600, ROWS),
            np.where(rng.random(ROWS) < 0.2, np.nan, rng.normal(size=ROWS)),
            rng.integers(0, 60, ROWS),
            np.full(ROWS, 3.0),
            np.where(rng.random(ROWS) < 0.5, 0.0, rng.normal(size=ROWS)),
        ]
    )
    signal = matrix[:, 0] + (matrix[:, 1] - EPOCH) / 3600 + np.nan_to_num(matrix[:, 2])
    signal += matrix[:, 3] % 3 + matrix[:, 5] + rng.normal(size=ROWS)
    return matrix, signal


MATRIX, SIGNAL = _history()
LABEL = (SIGNAL > 1.5).astype(np.float64)


def _hostile(booster: lgb.Booster) -> Floats:
    """The history, and rows drawn from every threshold, its neighbours and the nasty values."""
    rng = np.random.default_rng(11)
    trees = from_lightgbm(booster.model_to_string()).trees
    thresholds = np.concatenate([tree.threshold for tree in trees])
    near = [thresholds, np.nextafter(thresholds, np.inf), np.nextafter(thresholds, -np.inf)]
    rows = rng.choice(np.concatenate([*near, NASTY]), size=(3000, MATRIX.shape[1]))
    rows[:1000, 3] = rng.choice(CODES, 1000)
    return np.concatenate([MATRIX, rows])


def _boost(rounds: int = 30, categorical: bool = False, **parameters: Any) -> lgb.Booster:
    settled = {"verbosity": -1, "num_threads": 1, "objective": "binary", **parameters}
    codes: Any = [3] if categorical else "auto"
    target = SIGNAL if settled["objective"] in ("regression", "huber") else LABEL
    return lgb.train(settled, lgb.Dataset(MATRIX, target, categorical_feature=codes), rounds)


BAGGED: dict[str, Any] = {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5}
LOOSE: dict[str, Any] = {"categorical": True, "min_data_per_group": 5, "cat_smooth": 1}
BOOSTERS: dict[str, Callable[[], lgb.Booster]] = {
    "binary": lambda: _boost(120),
    "binary with another sigmoid": lambda: _boost(sigmoid=0.7),
    "regression": lambda: _boost(objective="regression"),
    "regression of square roots": lambda: _boost(objective="regression", reg_sqrt=True),
    "huber": lambda: _boost(objective="huber"),
    "poisson": lambda: _boost(objective="poisson"),
    "the user's own": lambda: _boost(objective=lambda score, data: (score - LABEL, score * 0 + 1)),
    "cross entropy": lambda: _boost(objective="cross_entropy"),
    "averaged forest": lambda: _boost(**BAGGED),
    "averaged regression": lambda: _boost(objective="regression", **BAGGED),
    "dart": lambda: _boost(boosting="dart"),
    "zero is missing": lambda: _boost(zero_as_missing=True),
    "nothing is missing": lambda: _boost(use_missing=False),
    "categories": lambda: _boost(**LOOSE),
    "categories, zero is missing": lambda: _boost(zero_as_missing=True, **LOOSE),
    "categories one by one": lambda: _boost(use_missing=False, max_cat_to_onehot=99, **LOOSE),
    "one tree": lambda: _boost(1),
    "one leaf": lambda: _boost(3, min_data_in_leaf=10 * ROWS),
    "no tree": lambda: lgb.Booster({"verbosity": -1}, lgb.Dataset(MATRIX, LABEL)),
}


@pytest.mark.parametrize("name", BOOSTERS)
def test_a_booster_and_its_graph_agree_on_hostile_rows(name: str) -> None:
    booster = BOOSTERS[name]()
    rows = _hostile(booster) if booster.num_trees() else MATRIX
    graph = export_onnx(booster)
    scores = Scorer(graph).score(rows)
    assert parity(native_scores(booster, rows), scores) <= 4e-16
    assert graph == export_onnx(booster), "the same booster gives the same bytes"


def test_the_sum_of_the_leaves_is_the_booster_s_to_the_bit() -> None:
    booster = _boost(120, objective="regression")
    rows = _hostile(booster)
    np.testing.assert_array_equal(Scorer(export_onnx(booster)).score(rows), booster.predict(rows))


THRESHOLDS = st.sampled_from([value for value in NASTY if np.isfinite(value)] + [1.0, -1.0, EPOCH])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), THRESHOLDS, st.sampled_from([0, 2, 4, 6, 8, 10])),
        min_size=1,
        max_size=5,
    )
)
def test_any_numeric_split_decides_as_lightgbm_does(splits: list[tuple[int, float, int]]) -> None:
    """A chain of splits with every missing type, default side and threshold next to zero."""
    booster = lgb.Booster(model_str=_chain(splits))
    edges = [threshold for _, threshold, _ in splits]
    values = np.array([*NASTY, *edges, *np.nextafter(edges, 9e9), *np.nextafter(edges, -9e9)])
    rows = np.column_stack([axis.ravel() for axis in np.meshgrid(values, values)])
    np.testing.assert_array_equal(Scorer(export_onnx(booster)).score(rows), booster.predict(rows))


def _chain(splits: list[tuple[int, float, int]]) -> str:
    """LightGBM's text for one tree whose left sides are leaves and whose right sides go on."""
    size = len(splits)
    columns: dict[str, Sequence[object]] = {
        "num_leaves": [size + 1],
        "num_cat": [0],
        "split_feature": [feature for feature, _, _ in splits],
        "split_gain": [1] * size,
        "threshold": [repr(float(threshold)) for _, threshold, _ in splits],
        "decision_type": [decision for _, _, decision in splits],
        "left_child": [~i for i in range(size)],
        "right_child": [*range(1, size), ~size],
        "leaf_value": range(1, size + 2),
        "leaf_weight": [1] * (size + 1),
        "leaf_count": [1] * (size + 1),
        "internal_value": [0] * size,
        "internal_weight": [1] * size,
        "internal_count": [1] * size,
        "is_linear": [0],
        "shrinkage": [1],
    }
    tree = "\n".join(f"{key}={' '.join(map(str, value))}" for key, value in columns.items())
    header = (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        "max_feature_idx=1\nobjective=regression\nfeature_names=a b\n"
        "feature_infos=[-1:1] [-1:1]\n"
    )
    return f"{header}\nTree=0\n{tree}\n\n\nend of trees\n"


def test_nan_where_training_had_none() -> None:
    booster = _boost()
    rows = np.repeat(MATRIX, MATRIX.shape[1], axis=0)
    rows[np.arange(len(rows)), np.arange(len(rows)) % MATRIX.shape[1]] = np.nan
    assert parity(native_scores(booster, rows), Scorer(export_onnx(booster)).score(rows)) <= 4e-16


def test_only_the_trees_up_to_the_best_iteration_are_written() -> None:
    booster = _boost(40)
    booster.best_iteration = 13
    assert len(from_lightgbm(booster.model_to_string()).trees) == 13
    scores = Scorer(export_onnx(booster)).score(MATRIX)
    check_parity(native_scores(booster, MATRIX), scores)
    whole = np.asarray(booster.predict(MATRIX, num_iteration=40))
    with pytest.raises(ParityFailed):
        check_parity(whole, scores)


@pytest.mark.parametrize("name", ["binary", "poisson", "averaged forest", "zero is missing"])
def test_a_row_scores_to_the_same_bits_in_any_batch(name: str) -> None:
    booster = BOOSTERS[name]()
    rows = np.resize(_hostile(booster), (5000, MATRIX.shape[1]))
    _require_batch_invariance(Scorer(export_onnx(booster)), rows)


def _require_batch_invariance(scorer: Scorer, rows: Floats) -> None:
    whole = scorer.score(rows)
    for size in BATCHES:
        parts = [scorer.score(rows[i : i + size]) for i in range(0, len(rows), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole, err_msg=f"batches of {size}")


PLAIN = MATRIX[:, [0, 1, 5]]
HOLES = MATRIX[:, [0, 1, 2]]


@pytest.mark.parametrize(
    ("model", "rows", "target"),
    [
        (RandomForestClassifier(12, random_state=0), PLAIN, LABEL),
        (RandomForestClassifier(12, random_state=0), HOLES, LABEL),
        (ExtraTreesRegressor(12, random_state=0), PLAIN, SIGNAL),
        (DecisionTreeClassifier(), HOLES, LABEL),
        (DecisionTreeClassifier(max_depth=1, min_samples_leaf=ROWS), PLAIN, LABEL),
        (GradientBoostingClassifier(n_estimators=12), PLAIN, LABEL),
        (GradientBoostingRegressor(n_estimators=12, init="zero"), PLAIN, SIGNAL),
        (HistGradientBoostingClassifier(max_iter=12), HOLES, LABEL),
        (HistGradientBoostingRegressor(max_iter=12, loss="poisson"), HOLES, LABEL),
        (LogisticRegression(), MATRIX[:, [0, 3, 5]], LABEL),
        (LinearRegression(), PLAIN, SIGNAL),
        (Ridge(), PLAIN, SIGNAL),
        (make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()), HOLES, LABEL),
        (make_pipeline("passthrough", StandardScaler(), DecisionTreeClassifier()), PLAIN, LABEL),
        (lgb.LGBMClassifier(n_estimators=12, n_jobs=1, verbosity=-1), HOLES, LABEL),
        (lgb.LGBMRegressor(n_estimators=12, n_jobs=1, verbosity=-1), HOLES, SIGNAL),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_scikit_learn_estimators_and_their_graphs_agree(
    model: Any, rows: Floats, target: Floats
) -> None:
    model.fit(rows, target)
    scorer = Scorer(export_onnx(model))
    native = native_scores(model, rows)
    check_parity(native, scorer.score(rows), tolerance=1e-13)
    _require_batch_invariance(scorer, rows)


def test_calibration_in_the_graph_is_the_calibration_offline() -> None:
    booster = _boost()
    plain = Scorer(export_onnx(booster)).score(MATRIX)
    fitted = IsotonicRegression(out_of_bounds="clip").fit(plain, LABEL)
    for calibration in (
        Isotonic(fitted.X_thresholds_, fitted.y_thresholds_),
        Isotonic((0.4,), (0.3,)),
        Platt(slope=3.0, intercept=-1.2),
    ):
        scorer = Scorer(export_onnx(booster, calibration))
        assert parity(calibration.apply(plain), scorer.score(MATRIX)) <= 4e-16
        _require_batch_invariance(scorer, MATRIX)


@pytest.mark.parametrize(
    ("x", "y"), [((), ()), ((0.0, 0.0), (0.1, 0.2)), ((0.0, 1.0), (0.2, 0.1)), ((0.0,), (np.nan,))]
)
def test_a_calibration_that_is_no_monotone_map_is_refused(
    x: tuple[float, ...], y: tuple[float, ...]
) -> None:
    with pytest.raises(DeclarationError, match="x rising, y not falling"):
        Isotonic(x, y)


THREE = np.arange(ROWS) % 3


class Shifted(LogisticRegression):  # type: ignore[misc]
    """A subclass may predict otherwise, so it is not taken for its base."""


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: object(), "no exact translation"),
        (lambda: LogisticRegression(), "not fitted"),
        (lambda: lgb.LGBMClassifier(), "not fitted"),
        (lambda: Shifted().fit(PLAIN, LABEL), "no exact translation"),
        (lambda: LogisticRegression().fit(MATRIX[:, [0, 3]], THREE), "3 classes"),
        (lambda: RandomForestClassifier(2).fit(PLAIN, THREE), "3 classes"),
        (
            lambda: lgb.LGBMClassifier(n_estimators=2, n_jobs=1, verbosity=-1).fit(PLAIN, THREE),
            "3 trees",
        ),
        (lambda: _boost(2, objective="regression", linear_tree=True), "linear models"),
        (lambda: _boost(2, objective="cross_entropy_lambda"), "objective 'cross_entropy_lambda'"),
        (lambda: make_pipeline(MinMaxScaler(), LinearRegression()).fit(PLAIN, SIGNAL), "MinMax"),
        (
            lambda: make_pipeline(SimpleImputer(add_indicator=True), LinearRegression()).fit(
                HOLES, SIGNAL
            ),
            "indicator",
        ),
        (
            lambda: GradientBoostingClassifier(n_estimators=2, loss="exponential").fit(
                PLAIN, LABEL
            ),
            "loss 'exponential'",
        ),
        (
            lambda: HistGradientBoostingClassifier(max_iter=2, categorical_features=[1]).fit(
                MATRIX[:, [0, 3]], LABEL
            ),
            "categories",
        ),
    ],
)
def test_what_cannot_be_exact_is_refused_with_a_way_out(
    model: Callable[[], object], said: str
) -> None:
    with pytest.raises(ExportRefused, match=said) as refused:
        export_onnx(model())
    assert "allowed: " in str(refused.value)
    assert "declare " in str(refused.value)
    assert "nativ" not in str(refused.value)


def test_the_parity_gate_says_what_differs_and_what_next() -> None:
    native = np.array([0.1, 0.5, 0.9])
    with pytest.raises(
        ParityFailed, match=r"late@3: .*0\.25; allowed: 1e-09; row 1 scores"
    ) as failed:
        check_parity(native, native + np.array([0.0, 0.25, 0.1]), where="late@3")
    assert (failed.value.row, failed.value.found) == (1, 0.25)
    assert failed.value.retryable is False
    assert "declare other parameters or another kind" in str(failed.value)


def test_parity_of_numbers_that_are_not_finite() -> None:
    odd = np.array([np.nan, np.inf, -np.inf])
    assert check_parity(odd, odd.copy()) == 0.0
    assert parity(odd, odd[::-1].copy()) == np.inf
    with pytest.raises(ParityFailed):
        check_parity(np.array([0.5]), np.array([np.nan]))
    with pytest.raises(MatrixRefused, match="at least 1"):
        check_parity(np.empty(0), np.empty(0))
    with pytest.raises(MatrixRefused, match="same rows"):
        parity(np.zeros(2), np.zeros(3))


def test_the_scorer_takes_any_layout_and_refuses_other_shapes() -> None:
    scorer = Scorer(export_onnx(_boost()))
    expected = scorer.score(MATRIX)
    assert scorer.width == MATRIX.shape[1]
    assert scorer.score(MATRIX[:0]).shape == (0,)
    np.testing.assert_array_equal(scorer.score(np.asfortranarray(MATRIX)), expected)
    np.testing.assert_array_equal(scorer.score(MATRIX[::-3]), expected[::-3])
    others: list[Any] = [MATRIX.astype(np.float32), MATRIX[0], MATRIX[:, 1:]]
    for other in others:
        with pytest.raises(MatrixRefused, match=r"allowed: float64\[n, 6\]"):
            scorer.score(other)


def test_bytes_that_are_no_graph_of_ours_are_refused() -> None:
    with pytest.raises(GraphRefused, match="export the model again"):
        Scorer(b"not a graph")
    renamed = export_onnx(_boost(1)).replace(b"features", b"measures")
    with pytest.raises(GraphRefused, match="measures"):
        Scorer(renamed)


def test_importing_the_modules_loads_no_model_library() -> None:
    heavy = "{'lightgbm', 'sklearn', 'onnx', 'onnxruntime', 'pandas', 'scipy'}"
    code = (
        "import sys, homeostat.train.export, homeostat.train.scoring; "
        f"sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
