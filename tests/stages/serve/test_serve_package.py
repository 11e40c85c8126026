"""A trained package in service: scores as in training, and a damaged file has its fallback."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homeostat.core.clock import from_micros
from homeostat.declare.deployments import Degradation, Deployment, Shadow
from homeostat.declare.system import System
from homeostat.features.assemble import Features
from homeostat.serve.explain import reasons
from homeostat.serve.predictor import Predictor
from homeostat.serve.routing import Arm, Route, load_arm
from homeostat.testing.payments import NOON
from homeostat.testing.toy_training import CARRIERS, toy_model, toy_sample, toy_system
from homeostat.train.fit import fit
from homeostat.train.lineage import Lineage
from homeostat.train.package import Origin, Package
from homeostat.train.servable import Servable


@pytest.fixture(scope="module")
def package() -> Package:
    model, system = toy_model(), toy_system()
    fitted = fit(model, toy_sample(300, seed=1), toy_sample(100, seed=2), threads=1)
    lineage = Lineage.of(system, model, NOON, {}, {})
    return Package.of(fitted, model.name, 0.3, Origin({}, {}, lineage), metrics={})


def deployed() -> tuple[System, Deployment]:
    system = toy_system()
    deployment = Deployment(
        model=system.models[0], rollout=(Shadow("1d"),), degradation=Degradation(score=0.125)
    )
    return replace(system, deployments=(deployment,)), deployment


def requests(rows: int) -> tuple[list[dict[str, Any]], Features]:
    features = toy_sample(rows, seed=3).features
    asked = [
        {
            "flight": f"f{i}", "due_at": from_micros(NOON), "hour": int(hour),
            "distance": None if np.isnan(distance) else distance,
            "carrier": features.categories["carrier"][i],
        }
        for i, (distance, _, hour) in enumerate(features.matrix.tolist())
    ]  # fmt: skip
    return asked, features


def test_serving_scores_to_the_bit_as_training_does(package: Package) -> None:
    asked, features = requests(200)
    servable = Servable(package)
    route = Route(champion=Arm(1, servable, package.threshold))
    found = Predictor(*deployed()).predict(None, asked, NOON, route, [r["flight"] for r in asked])
    assert found.scores == servable.score(features).tolist()
    assert len(set(found.scores)) > 20
    assert set(map(tuple, found.degraded)) == {()}
    alone = [
        Predictor(*deployed()).predict(None, [r], NOON, route, [r["flight"]]).scores[0]
        for r in asked[:20]
    ]
    assert alone == found.scores[:20]


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "other"])
def test_a_damaged_package_has_its_declared_answer(
    package: Package, tmp_path: Path, damage: str
) -> None:
    package.save(tmp_path)
    graph = tmp_path / "model.onnx"
    if damage == "gone":
        shutil.rmtree(tmp_path)
    else:
        content = graph.read_bytes()
        graph.write_bytes(
            {"cut": content[:-100], "empty": b"", "other": content[:-1] + b"x"}[damage]
        )
    told: list[str] = []
    arm = load_arm(
        2, 0.3, lambda: Servable(Package.load(tmp_path)), lambda part, error: told.append(part)
    )
    asked, _ = requests(3)
    sound = Arm(1, Servable(package), 0.3)
    for route, role in (
        (Route(champion=arm, previous=sound), "previous"),
        (Route(champion=arm), "score"),
    ):
        found = Predictor(*deployed()).predict(None, asked, NOON, route, ["a", "b", "c"])
        assert (found.arms, found.degraded) == ([role] * 3, [["model_broken"]] * 3)
    assert told == ["load"]


def test_reasons_add_up_and_name_the_values(package: Package) -> None:
    _, features = requests(50)
    servable = Servable(package)
    parts = servable.contributions(features)
    odds = np.log(servable.score(features) / (1 - servable.score(features)))
    for row in range(50):
        found = reasons(package.features, features, row, parts)
        assert sum(r.contribution for r in found) + parts[row, -1] == pytest.approx(odds[row])
        assert [abs(r.contribution) for r in found] == sorted(
            (abs(r.contribution) for r in found), reverse=True
        )
        for reason in found:
            assert (reason.contribution > 0) == (reason.direction == "raises")
            if reason.feature == "carrier":
                assert reason.value in CARRIERS
            elif reason.feature == "hour":
                assert reason.value == features.matrix[row, 2]
    only = reasons(package.features, features, 0, parts, top=1)
    assert len(only) == 1
