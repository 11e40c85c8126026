"""Fitting: the same bits every time, nothing learned from later rows, graph equal to model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import lightgbm
import numpy as np
import pytest
from lightgbm.basic import _ConfigAliases

from homeostat.declare.models import Estimator
from homeostat.features.assemble import Features
from homeostat.testing.toy_training import SMALL, toy_model, toy_sample
from homeostat.train.dataset import Sample, TrainingRefused
from homeostat.train.encoding import CategoryEncoding
from homeostat.train.fit import EstimatorRefused, Fitted, fit
from homeostat.train.parameters import check_parameters

TRAIN, VALIDATION = toy_sample(400, seed=1), toy_sample(200, seed=2)


def toy_fit(train: Sample = TRAIN, validation: Sample = VALIDATION, **changes: Any) -> Fitted:
    threads = changes.pop("threads", 1)
    return fit(toy_model(**changes), train, validation, threads=threads)


def bits(fitted: Fitted) -> tuple[object, ...]:
    return fitted.graph, fitted.native, fitted.inputs, fitted.importance, fitted.rounds


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return toy_fit()


def test_the_same_rows_and_seed_give_the_same_bits(fitted: Fitted) -> None:
    assert bits(toy_fit()) == bits(fitted)


def test_the_number_of_threads_does_not_matter(fitted: Fitted) -> None:
    assert bits(toy_fit(threads=2)) == bits(fitted)


def carrier_encoding(fitted: Fitted) -> CategoryEncoding:
    found = fitted.inputs.encodings["carrier"]
    assert isinstance(found, CategoryEncoding)
    return found


def turned(sample: Sample) -> Sample:
    return Sample(sample.features, ~sample.labels)


def without_last_row(sample: Sample) -> Sample:
    categories = {n: v[:-1] for n, v in sample.features.categories.items()}
    return Sample(Features(sample.features.matrix[:-1], categories), sample.labels[:-1])


@pytest.mark.parametrize("change", [turned, without_last_row])
def test_other_rows_give_another_model(fitted: Fitted, change: Callable[[Sample], Sample]) -> None:
    assert toy_fit(train=change(TRAIN)).graph != fitted.graph


def test_another_seed_gives_another_model(fitted: Fitted) -> None:
    assert toy_fit(seed=1).graph != fitted.graph


def by_numbers_alone(sample: Sample) -> Sample:
    return Sample(Features(sample.features.matrix, {}), sample.labels)


@pytest.mark.parametrize(
    "estimator",
    [
        Estimator("lightgbm:LGBMClassifier", {**SMALL, "bagging_fraction": 0.5, "bagging_freq": 1}),
        Estimator("sklearn.ensemble:RandomForestClassifier", {"n_estimators": 3}),
    ],
)
def test_the_seed_reaches_the_estimator(estimator: Estimator) -> None:
    train, validation = by_numbers_alone(TRAIN), by_numbers_alone(VALIDATION)
    one, again, other = (
        toy_fit(train, validation, estimator=estimator, seed=seed).graph for seed in (0, 0, 1)
    )
    assert one == again
    assert one != other


def test_encodings_are_learned_from_training_rows_alone(fitted: Fitted) -> None:
    strange = Features(VALIDATION.features.matrix, {"carrier": ["ZZ"] * len(VALIDATION)})
    for other in (turned(VALIDATION), Sample(strange, VALIDATION.labels)):
        assert toy_fit(validation=other).inputs == fitted.inputs
    assert toy_fit(train=turned(TRAIN)).inputs != fitted.inputs


def test_an_encoding_is_the_smoothed_rate_of_its_training_rows(fitted: Fitted) -> None:
    encoding = carrier_encoding(fitted)
    carriers = np.array(TRAIN.features.categories["carrier"], object)
    overall = float(TRAIN.labels.mean())
    assert encoding.unseen == pytest.approx(overall)
    for carrier in (*encoding.codes, None):
        rate = float(TRAIN.labels[carriers == carrier].mean())
        assert min(rate, overall) <= encoding.code(carrier) <= max(rate, overall)
        assert abs(encoding.code(carrier) - rate) < abs(encoding.code(carrier) - overall)


def test_a_missing_category_that_training_never_saw_is_like_an_unseen_one() -> None:
    never: list[str | None] = [c or "AA" for c in TRAIN.features.categories["carrier"]]
    sample = Sample(Features(TRAIN.features.matrix, {"carrier": never}), TRAIN.labels)
    encoding = carrier_encoding(toy_fit(train=sample))
    assert encoding.code(None) == encoding.unseen == encoding.code("ZZ")


def test_early_stopping_listens_to_the_validation_rows() -> None:
    many = Estimator("lightgbm:LGBMClassifier", {**SMALL, "n_estimators": 300})
    assert 0 < (toy_fit(estimator=many).rounds or 0) < 300
    patient = Estimator(
        "lightgbm:LGBMClassifier", {**SMALL, "n_estimators": 30, "early_stopping_rounds": 30}
    )
    assert toy_fit(estimator=patient).parity < 1e-9


def test_the_graph_scores_as_the_model_does(fitted: Fitted) -> None:
    sample = toy_sample(100, seed=3)
    scores = fitted.scores(sample.features)
    assert fitted.parity < 1e-9
    np.testing.assert_array_equal(fitted.validation_scores, fitted.scores(VALIDATION.features))
    assert ((scores > 0) & (scores < 1)).all()


def test_the_estimator_over_the_inputs_scores_as_the_graph_does(fitted: Fitted) -> None:
    features = toy_sample(50, seed=4).features
    native = fitted.estimator.booster_.predict(fitted.inputs.matrix(features))
    np.testing.assert_allclose(native, fitted.scores(features), rtol=1e-12)


def test_training_scores_come_from_evenly_spaced_rows(fitted: Fitted) -> None:
    assert fitted.train_rows.tolist() == list(range(len(TRAIN)))
    assert fitted.train_scores.shape == (len(TRAIN),)


def test_of_many_training_rows_some_are_scored(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeostat.train.fit.TRAIN_SCORES", 3)
    some = toy_fit()
    assert some.train_rows.tolist() == [0, 199, 399]
    np.testing.assert_array_equal(some.train_scores, fitted.train_scores[some.train_rows])


def test_importance_is_a_share_of_the_gain(fitted: Fitted) -> None:
    assert list(fitted.importance) == ["distance", "carrier", "hour"]
    assert sum(fitted.importance.values()) == pytest.approx(1.0)
    assert max(fitted.importance, key=lambda name: fitted.importance[name]) == "hour"


def test_another_estimator_of_scikit_learn_is_exported_too() -> None:
    forest = Estimator("sklearn.ensemble:RandomForestClassifier", {"n_estimators": 5})
    one, two = toy_fit(estimator=forest), toy_fit(estimator=forest)
    assert one.native is None
    assert one.rounds is None
    assert one.graph == two.graph
    assert one.graph != toy_fit(estimator=forest, seed=7).graph
    assert sum(one.importance.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("target", "parameters", "error", "text"),
    [
        ("lightgbm:LGBMClassifer", {}, EstimatorRefused, "has no 'LGBMClassifer'"),
        (
            "nowhere.at_all:Model",
            {},
            EstimatorRefused,
            "'nowhere' is neither beside the system's file nor installed; .*nowhere.py there",
        ),
        (
            "sklearn.tress:Tree",
            {},
            EstimatorRefused,
            "no module 'sklearn.tress' in the package 'sklearn'",
        ),
        (
            "lightgbm:LGBMClassifier",
            {"n_estimatorz": 5},
            EstimatorRefused,
            "Did you mean 'n_estimators'",
        ),
        (
            "lightgbm:LGBMClassifier",
            {"zzz": 5},
            EstimatorRefused,
            "'zzz'. allowed: LightGBM's parameters",
        ),
        (
            "sklearn.ensemble:RandomForestClassifier",
            {"tres": 5},
            EstimatorRefused,
            "no parameter 'tres'",
        ),
    ],
)
def test_an_estimator_that_cannot_be_made_is_refused(
    target: str, parameters: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        toy_fit(estimator=Estimator(target, parameters))


def test_lightgbm_names_and_aliases_are_taken_and_every_misspelling_is_refused() -> None:
    names = [*lightgbm.LGBMClassifier().get_params(), "max_bin", "path_smooth", "xgboost_dart_mode"]
    check_parameters(lightgbm.LGBMClassifier, names, "here")
    for name in names:
        for wrong in (name + "z", name[1:] + "_q", name.upper()):
            with pytest.raises(EstimatorRefused, match="here: no parameter"):
                check_parameters(lightgbm.LGBMClassifier, [wrong], "here")


def _groups() -> list[list[str]]:
    aliases: dict[str, list[str]] = _ConfigAliases._get_all_param_aliases()
    return [sorted({first, *others}) for first, others in aliases.items() if len(others) > 1]


@pytest.mark.parametrize("names", _groups(), ids=lambda names: names[0])
def test_two_names_of_one_parameter_are_refused_with_both(names: list[str]) -> None:
    for one, other in pairwise(names):
        with pytest.raises(EstimatorRefused, match=f"'{one}' and '{other}' are names of one"):
            check_parameters(lightgbm.LGBMClassifier, [other, "max_bin", one], "here")


@pytest.mark.parametrize(
    ("name", "values"),
    [("n_estimators", (3, 7)), ("min_child_samples", (5, 40)), ("reg_alpha", (0.0, 5.0)),
     ("learning_rate", (0.1, 0.5)), ("num_leaves", (3, 15)), ("early_stopping_rounds", (1, 50))],
)  # fmt: skip
def test_a_parameter_counts_under_any_of_its_names(name: str, values: tuple[float, float]) -> None:
    def trained(parameters: dict[str, object]) -> bytes:
        some = {"feature_fraction": 0.4, **parameters}
        return toy_fit(estimator=Estimator("lightgbm:LGBMClassifier", some)).graph

    names = next(names for names in _groups() if name in names)
    first, second = (trained({name: value}) for value in values)
    assert first != second
    for other in names:
        assert trained({other: values[0]}) == first, other


def test_another_class_that_takes_any_keyword_is_asked_for_what_it_names() -> None:
    class Base:
        def __init__(self, *, max_depth: int = 3, **more: object) -> None: ...

    class Booster(Base):
        def __init__(self, *, rounds: int = 10, **more: object) -> None: ...

    check_parameters(Booster, ["max_depth", "rounds", "tree_method"], "here")
    with pytest.raises(EstimatorRefused, match=r"'max_deph'\. Did you mean 'max_depth'"):
        check_parameters(Booster, ["max_deph"], "here")


@pytest.mark.parametrize(
    ("train", "validation", "text"),
    [
        (toy_sample(4), VALIDATION, "4 training rows; allowed: at least 5"),
        (TRAIN, toy_sample(0), "0 validation rows; allowed: at least 1"),
        (replace(TRAIN, labels=np.ones(400, bool)), VALIDATION, "400 of 400 .* both classes"),
        (replace(TRAIN, labels=np.zeros(400, bool)), VALIDATION, "0 of 400 .* both classes"),
    ],
)
def test_rows_that_teach_nothing_are_refused(train: Sample, validation: Sample, text: str) -> None:
    with pytest.raises(TrainingRefused, match=text):
        toy_fit(train, validation)


def test_a_column_without_a_single_value_and_a_validation_of_one_class_still_fit() -> None:
    nothing: list[str | None] = [None] * len(TRAIN)
    matrix = np.where([True, True, False], np.nan, TRAIN.features.matrix)
    train = Sample(Features(matrix, {"carrier": nothing}), TRAIN.labels)
    one_class = Sample(VALIDATION.features, np.zeros(len(VALIDATION), np.bool_))
    fitted = toy_fit(train, one_class)
    encoding = carrier_encoding(fitted)
    assert encoding.codes == {}
    assert encoding.code(None) == pytest.approx(encoding.unseen)
    assert np.isfinite(fitted.scores(VALIDATION.features)).all()


def test_five_rows_are_enough_to_fit() -> None:
    few = toy_sample(5, seed=3)
    assert 0 < few.labels.sum() < 5
    assert np.isfinite(toy_fit(few).scores(VALIDATION.features)).all()
