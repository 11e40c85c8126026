"""What is wrong with a declared estimator is told before anything is trained, and all at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from homeostat.declare.models import Estimator, Model
from homeostat.runtime.loading import load_system
from homeostat.testing.toy_training import toy_model
from homeostat.train.estimators import estimator_mistakes

LGBM, FOREST = "lightgbm:LGBMClassifier", "sklearn.ensemble:RandomForestClassifier"


def mistakes(target: str, parameters: dict[str, object], *, explain: bool | None = None) -> str:
    return "\n".join(map(str, estimator_mistakes([model(target, parameters, explain)])))


def model(target: str, parameters: dict[str, object], explain: bool | None = None) -> Model:
    found = toy_model(Estimator(target, parameters))
    return replace(found, requirements=replace(found.requirements, explain=explain))


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """Make a module of one's own with an estimator in it; return how it is named."""

    def own(made: Any) -> str:
        module = ModuleType("of_ones_own")
        module.made = made  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "of_ones_own", module)
        return "of_ones_own:made"

    return own


@pytest.mark.parametrize(
    ("target", "parameters", "said"),
    [
        (LGBM, {"n_estimatorz": 5}, ["no parameter 'n_estimatorz'. Did you mean 'n_estimators'?"]),
        (LGBM, {"n_estimatorz": 5, "num_leafs": 3}, ["'n_estimatorz'", "'num_leafs'"]),
        (
            LGBM,
            {"n_estimators": 5, "num_iterations": 6},
            ["'n_estimators' and 'num_iterations' are names of one parameter"],
        ),
        (FOREST, {"n_estimatorz": 5}, ["Did you mean 'n_estimators'?", "max_depth"]),
        (FOREST, {"max_depht": 5, "n_job": 5}, ["'max_depht'", "'n_job'"]),
        (FOREST, {"max_depth": "five"}, ["The 'max_depth' parameter"]),
        ("sklearn.linear_model:LogisticRegression", {"CC": 1.0}, ["no parameter 'CC'"]),
        (LGBM, {"early_stopping_rounds": "5"}, ["early_stopping_rounds='5': str"]),
        ("sklearn.svm:SVC", {}, ["no exact translation is known for it", "late_arrival"]),
        ("sklearn.ensemble:RandomForrest", {}, ["has no 'RandomForrest'"]),
        ("nowhere:Model", {}, ["neither beside the system's file nor installed", "nowhere.py"]),
        ("sklearn.ensemble:__name__", {}, ["it is a str"]),
    ],
)
def test_each_mistake_is_told_with_its_model(
    target: str, parameters: dict[str, object], said: list[str]
) -> None:
    found = mistakes(target, parameters)
    for words in (*said, "late_arrival", target, "allowed:"):
        assert words in found


@pytest.mark.parametrize(
    ("target", "parameters"),
    [
        (LGBM, {"n_estimators": 5, "lambda_l1": 0.5, "verbose": -1, "early_stopping_rounds": 5}),
        (FOREST, {"n_estimators": 5, "class_weight": "balanced"}),
        ("sklearn.linear_model:LogisticRegression", {"C": 0.5}),
        ("sklearn.ensemble:HistGradientBoostingClassifier", {"max_iter": 20}),
    ],
)
def test_what_can_be_trained_has_none(target: str, parameters: dict[str, object]) -> None:
    assert mistakes(target, parameters) == ""


USED = {
    "num_leaves", "min_data_in_leaf", "lambda_l1", "learning_rate", "bagging_fraction", "max_bin",
}  # fmt: skip
SETTLED = {
    "deterministic": (True, False),
    "force_row_wise": (True, False),
    "force_col_wise": (False, True),
    "verbosity": (-1, 1),
    "importance_type": ("gain", "split"),
}
NEVER = {"num_threads": 4, "task": "train", "data": "a.csv", "output_model": "m", "machines": "a"}


@pytest.mark.parametrize("first", [*sorted(USED), *SETTLED, *NEVER])
def test_a_value_that_no_training_uses_is_refused_under_any_of_its_names(first: str) -> None:
    from lightgbm.basic import _ConfigAliases

    names = {first, *_ConfigAliases.get(first)}
    if first == "num_threads":
        assert "n_jobs" in names
    for name in sorted(names):
        if first in USED:
            assert mistakes(LGBM, {name: 1}) == "", name
        elif first in SETTLED:
            allowed, other = SETTLED[first]
            assert mistakes(LGBM, {name: allowed}) == "", name
            assert f"{name}={other!r}, and " in mistakes(LGBM, {name: other}), name
        else:
            assert f"{name}={NEVER[first]!r}, " in mistakes(LGBM, {name: NEVER[first]}), name


def test_a_class_made_from_one_of_lightgbms_has_the_models_seed(own: Callable[[Any], str]) -> None:
    from lightgbm import LGBMClassifier

    class Mine(LGBMClassifier):
        """Fitted with all it is given, and the model's seed."""

    for name in ("seed", "random_seed"):
        assert f"{name}=5, and Model.seed sets it" in mistakes(own(Mine), {name: 5})


def test_one_that_is_made_by_a_function_of_ones_own(own: Callable[[Any], str]) -> None:
    def piped(C: float = 1.0) -> Any:  # noqa: N803
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        return make_pipeline(SimpleImputer(), LogisticRegression(C=C))

    assert mistakes(own(piped), {"C": 0.5}) == ""
    assert "no parameter 'D'" in mistakes(own(piped), {"D": 0.5})
    assert "explain=True" in mistakes(own(piped), {}, explain=True)


def test_one_that_any_keyword_is_good_for(own: Callable[[Any], str]) -> None:
    """As xgboost's: names that are nearly one it spells out are refused, others are not known."""
    from sklearn.ensemble import RandomForestClassifier

    def booster(max_depth: int = 3, **more: object) -> Any:
        return RandomForestClassifier(max_depth=max_depth)

    assert mistakes(own(booster), {"max_depth": 5, "tree_method": "hist"}) == ""
    assert "Did you mean 'max_depth'" in mistakes(own(booster), {"max_deph": 5})


def test_one_that_refuses_what_it_is_given(own: Callable[[Any], str]) -> None:
    def picky(depth: int = 3) -> Any:
        raise ValueError(f"depth {depth} is too deep")

    assert "depth 9 is too deep" in mistakes(own(picky), {"depth": 9})


def test_an_estimator_beside_the_system_file_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "lies_beside.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "def odd(C=1.0):\n    return LogisticRegression(C=C)\n"
    )
    (tmp_path / "system.py").write_text(
        "from homeostat.testing.toy import toy_system\nsystem = toy_system()\n"
    )
    assert "'lies_beside' is neither" in mistakes("lies_beside:odd", {})
    for _ in range(2):
        assert load_system(tmp_path / "system.py").name == "toy"
        assert sys.path.count(str(tmp_path)) == 1
    assert mistakes("lies_beside:odd", {}) == ""
    assert "no parameter 'CC'" in mistakes("lies_beside:odd", {"CC": 1.0})


@pytest.mark.parametrize(
    ("name", "advice"),
    [("catboost", "pip install catboost"), ("imblearn", "pip install imbalanced-learn")],
)
def test_only_a_package_that_is_known_is_to_be_installed(
    monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    assert advice in mistakes(f"{name}:Model", {})
