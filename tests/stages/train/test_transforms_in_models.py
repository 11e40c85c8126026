"""Transforms in a model: learned once, in the package, the same in training, serving, rebuild."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.declare.encodings import FrequencyEncoding, Hashing, OneHot, TargetEncoding, Tokens
from homeostat.declare.models import Estimator
from homeostat.declare.transforms import Bins, Clip, Impute, Log, Scale, Transform
from homeostat.features.assemble import Features
from homeostat.testing.toy_training import toy_model, toy_package, toy_sample
from homeostat.train.dataset import Sample
from homeostat.train.fit import Fitted, fit
from homeostat.train.inputs import Inputs
from homeostat.train.learn import learn
from homeostat.train.package import Package
from homeostat.train.servable import Servable

TRAIN, VALIDATION = toy_sample(400, seed=1), toy_sample(200, seed=2)

TRANSFORMS: tuple[Transform, ...] = (
    Impute(("distance", "hour"), indicator=True),
    Clip("distance", low=0.05, high=0.95, flag=True),
    Scale(("distance", "hour"), by="robust"),
    TargetEncoding("carrier"),
    OneHot("carrier", at_most=2),
    FrequencyEncoding("carrier"),
    Scale("carrier"),
)
WIDTH = 3 + 2 + 6  # distance, missing, outside; hour, missing; rate, four marks, share

LINEAR = Estimator("sklearn.linear_model:LogisticRegression", {})


def toy_fit(train: Sample = TRAIN, validation: Sample = VALIDATION, **parts: Any) -> Fitted:
    model = toy_model(**{"transforms": TRANSFORMS, **parts})
    return fit(model, train, validation, threads=1)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return toy_fit()


@pytest.fixture(scope="module")
def package() -> Package:
    return toy_package(transforms=TRANSFORMS)


def row(features: Features, at: int) -> Features:
    categories = {name: texts[at : at + 1] for name, texts in features.categories.items()}
    return Features(features.matrix[at : at + 1], categories)


def test_the_columns_of_a_feature_are_beside_each_other(fitted: Fitted) -> None:
    inputs = fitted.inputs
    assert inputs.width == WIDTH
    features = Features(
        np.array([[np.nan, np.nan, 12.0], [1e9, np.nan, np.nan]]), {"carrier": [None, "ZZ"]}
    )
    distance, carrier, hour = np.split(inputs.matrix(features), [3, 9], axis=1)
    assert distance[:, 1:].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert carrier[:, 1:5].tolist() == [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]
    assert hour[:, 1].tolist() == [0.0, 1.0]
    kept = inputs.matrix(TRAIN.features)
    np.testing.assert_allclose(kept[:, [3, 8]].mean(axis=0), 0.0, atol=0.1)  # scaled last
    np.testing.assert_allclose(kept[:, 8].std(), 1.0)


def test_the_estimator_learns_what_serving_will_compute_save_its_own_labels() -> None:
    learned = learn(toy_model(transforms=TRANSFORMS), TRAIN)
    served = learned.inputs.matrix(TRAIN.features)
    rate = 3
    others = [column for column in range(WIDTH) if column != rate]
    np.testing.assert_array_equal(learned.matrix[:, others], served[:, others])
    assert not np.array_equal(learned.matrix[:, rate], served[:, rate])


NUMBER = st.sampled_from(
    [
        Impute("hour", indicator=True), Impute("hour", by="constant", constant=-1.0), Log("hour"),
        Clip("hour", flag=True), Clip("hour", low=0.2, high=0.7), Scale("hour"),
        Scale("hour", by="min_max"), Bins("hour", count=5), FrequencyEncoding("hour"),
    ]
)  # fmt: skip
LAST = st.sampled_from([OneHot("hour", at_most=3), Bins("hour", edges=(3.0, 9.0), marks=True)])
TEXT = st.sampled_from(
    [FrequencyEncoding("carrier"), OneHot("carrier"), Hashing("carrier", buckets=5),
     Tokens("carrier", width=4)]
)  # fmt: skip


@given(
    st.lists(NUMBER, max_size=4),
    st.none() | LAST,
    st.lists(TEXT, min_size=1, max_size=3),
    st.booleans(),
)
def test_any_chain_is_the_same_alone_as_in_a_batch_and_as_it_was_learned(
    numbers: list[Transform], last: Transform | None, texts: list[Transform], also_alike: bool
) -> None:
    chain = [*numbers, *filter(None, [last])]
    if also_alike:  # two features whose steps are of the same kinds are worked on together
        chain = [type(t)(**{**vars(t), "features": ("hour", "distance")}) for t in chain]
    train = toy_sample(40, seed=5)
    learned = learn(toy_model(transforms=(*chain, *texts, Scale("carrier"))), train)
    whole = learned.inputs.matrix(train.features)
    np.testing.assert_array_equal(whole, learned.matrix)
    for at in range(0, len(train), 7):
        alone = learned.inputs.matrix(row(train.features, at))
        assert alone.tobytes() == whole[at : at + 1].tobytes()
    ones = np.ones((1, learned.inputs.width + 1))
    widths = learned.inputs.by_feature(ones)[0]
    assert widths.sum() == learned.inputs.width + 1
    assert widths[-1] == 1.0


def strange(sample: Sample) -> Iterator[Sample]:
    """Yield validation rows that would teach other parameters."""
    yield Sample(sample.features, ~sample.labels)
    yield Sample(Features(sample.features.matrix * 1e6, sample.features.categories), sample.labels)
    yield Sample(
        Features(np.full_like(sample.features.matrix, np.nan), {"carrier": ["ZZ"] * len(sample)}),
        sample.labels,
    )


@pytest.mark.parametrize("validation", [*strange(VALIDATION)])
def test_nothing_is_learned_from_validation_rows(fitted: Fitted, validation: Sample) -> None:
    assert toy_fit(validation=validation).inputs == fitted.inputs


@pytest.mark.parametrize("train", [*strange(TRAIN)])
def test_parameters_are_learned_from_training_rows(fitted: Fitted, train: Sample) -> None:
    assert toy_fit(train=train).inputs != fitted.inputs


def test_importance_is_told_by_feature(fitted: Fitted) -> None:
    assert list(fitted.importance) == ["distance", "carrier", "hour"]
    assert sum(fitted.importance.values()) == pytest.approx(1.0)
    assert max(fitted.importance, key=lambda name: fitted.importance[name]) == "hour"
    gains = fitted.estimator.booster_.feature_importance("gain")
    assert fitted.importance["carrier"] == pytest.approx(gains[3:9].sum() / gains.sum())
    assert np.count_nonzero(gains[3:9]) > 1


def test_contributions_are_told_by_feature(package: Package) -> None:
    servable = Servable(package)
    features = toy_sample(40, seed=9).features
    parts, scores = servable.contributions(features), servable.score(features)
    assert parts.shape == (40, 4)
    np.testing.assert_allclose(parts.sum(axis=1), np.log(scores / (1 - scores)), atol=1e-9)
    alone = [servable.contributions(row(features, at))[0].tolist() for at in range(40)]
    assert alone == parts.tolist()


def test_a_linear_model_becomes_possible() -> None:
    fitted = toy_fit(estimator=LINEAR)
    scores = fitted.scores(VALIDATION.features)
    assert fitted.parity < 1e-12
    assert np.isfinite(scores).all()
    assert scores[VALIDATION.labels].mean() > scores[~VALIDATION.labels].mean() + 0.2


def test_a_package_keeps_what_was_learned(package: Package, tmp_path: Path) -> None:
    package.save(tmp_path)
    loaded = Package.load(tmp_path)
    assert loaded == package
    assert loaded.inputs == package.inputs
    features = toy_sample(60, seed=9).features
    scores = Servable(loaded).score(features)
    assert scores.tobytes() == Servable(package).score(features).tobytes()
    alone = [Servable(loaded).score(row(features, at))[0] for at in range(60)]
    assert alone == scores.tolist()


def test_training_again_gives_the_same_package(package: Package) -> None:
    assert toy_package(transforms=TRANSFORMS).hash == package.hash
    assert toy_package(transforms=TRANSFORMS[:-1]).hash != package.hash


def test_what_was_learned_is_part_of_the_hash(package: Package, tmp_path: Path) -> None:
    package.save(tmp_path)
    body = json.loads((tmp_path / "manifest.json").read_text())
    assert set(body["chains"]) == {"distance", "hour", "carrier"}
    assert body["chains"]["hour"][0][0]["kind"] == "impute"
    inputs = Inputs(package.features, package.encodings, {})
    assert inputs.width < package.inputs.width
    plain = toy_package()
    plain.save(tmp_path / "plain")
    assert "chains" not in json.loads((tmp_path / "plain" / "manifest.json").read_text())


SERVE = """
import sys
from pathlib import Path
import numpy as np
from homeostat.features.assemble import Features
from homeostat.train.package import Package
from homeostat.train.servable import Servable
servable = Servable(Package.load(Path(sys.argv[1])))
print(servable.score(Features(np.array([[900.0, np.nan, 12.0]]), {"carrier": ["AA"]}))[0])
print(*sorted({"sklearn", "pandas", "scipy", "lightgbm"} & set(sys.modules)))
"""


def test_serving_needs_no_training_library(package: Package, tmp_path: Path) -> None:
    package.save(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    score, loaded = run.stdout.split("\n")[:2]
    assert 0.0 < float(score) < 1.0
    assert loaded == ""
