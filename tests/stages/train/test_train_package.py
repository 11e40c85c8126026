"""Packages: saved and loaded whole, refused when damaged, hashed by what they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homeostat.core.hashing import content_hash
from homeostat.declare.models import Estimator
from homeostat.testing.toy_training import toy_package, toy_sample
from homeostat.train.package import Package, PackageCorrupt, differences
from homeostat.train.servable import ExplanationRefused, Servable
from homeostat.train.steps import Logged

NOON = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def package() -> Package:
    return toy_package(NOON)


def test_a_package_is_saved_and_loaded_whole(package: Package, tmp_path: Path) -> None:
    package.save(tmp_path)
    loaded = Package.load(tmp_path)
    assert loaded == package
    assert loaded.hash == package.hash
    package.save(tmp_path)  # over itself
    assert Package.load(tmp_path) == package


def test_saving_is_the_same_bytes_every_time(package: Package, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        package.save(tmp_path / folder)
    one, two = (
        {file.name: file.read_bytes() for file in (tmp_path / folder).iterdir()}
        for folder in ("one", "two")
    )
    assert one == two
    assert sorted(one) == ["manifest.json", "model.onnx", "native.txt", "reference.json"]


def test_the_same_training_gives_the_same_hash_at_any_instant(package: Package) -> None:
    later = toy_package(at=NOON + 1)
    assert later.hash == package.hash
    assert differences(later, package) == ("lineage",)


def test_another_seed_gives_another_hash(package: Package) -> None:
    assert toy_package(NOON, seed=1).hash != package.hash


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"features": ("distance", "carrier", "minute")},
        {"encodings": {}},
        {"chains": {"hour": ((Logged(),),)}},
        {"graph": b"other"},
        {"native": "other"},
        {"native": None},
        {"threshold": 0.30000000000000004},
        {"definitions": {}},
        {"reference": {"hour": {"edges": (0.0, 12.0), "counts": [1, 3]}}},
        {"metrics": {}},
        {"importance": {}},
    ],
)
def test_whatever_a_package_does_is_in_its_hash(package: Package, change: dict[str, Any]) -> None:
    changed = replace(package, **change)
    assert changed.hash != package.hash
    assert differences(changed, package) == tuple(change)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink])
@pytest.mark.parametrize("file", ["manifest.json", "model.onnx", "native.txt", "reference.json"])
def test_a_damaged_file_is_refused_by_name(
    package: Package, tmp_path: Path, file: str, damage: Callable[[Path], None]
) -> None:
    package.save(tmp_path)
    damage(tmp_path / file)
    with pytest.raises(PackageCorrupt) as refused:
        Package.load(tmp_path)
    assert refused.value.file == tmp_path / file
    assert f"package file {file!r}" in str(refused.value)
    assert "rebuild" in str(refused.value)


def test_a_damaged_file_is_refused_with_both_hashes(package: Package, tmp_path: Path) -> None:
    package.save(tmp_path)
    expected = json.loads((tmp_path / "manifest.json").read_text())["files"]["model.onnx"]
    flip(tmp_path / "model.onnx")
    with pytest.raises(PackageCorrupt, match=f"found SHA-256 .*; allowed: SHA-256 {expected}"):
        Package.load(tmp_path)


def test_every_value_of_the_manifest_is_guarded(package: Package, tmp_path: Path) -> None:
    package.save(tmp_path)
    manifest = tmp_path / "manifest.json"
    body = json.loads(manifest.read_text())
    for name in body:
        manifest.write_text(json.dumps({**body, name: 0.999}))
        with pytest.raises(PackageCorrupt, match="manifest"):
            Package.load(tmp_path)
    manifest.write_text("[]")
    with pytest.raises(PackageCorrupt, match="format 'list'"):
        Package.load(tmp_path)


def test_a_forged_manifest_is_refused_by_the_content_hash(package: Package, tmp_path: Path) -> None:
    package.save(tmp_path)
    manifest = tmp_path / "manifest.json"
    body = json.loads(manifest.read_text()) | {"threshold": 0.999}
    del body["manifest_hash"]
    manifest.write_text(json.dumps(body | {"manifest_hash": content_hash(body)}))
    with pytest.raises(PackageCorrupt, match=f"allowed: content hash {package.hash}"):
        Package.load(tmp_path)


def test_a_save_that_was_cut_short_is_refused(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(package, threshold=0.9).save(tmp_path)
    written = Path.write_bytes

    def dies_at_the_text(path: Path, content: bytes) -> int:
        if path.name == "native.txt":
            raise KeyboardInterrupt
        return written(path, content)

    with monkeypatch.context() as dying:
        dying.setattr(Path, "write_bytes", dies_at_the_text)
        with pytest.raises(KeyboardInterrupt):
            package.save(tmp_path)
    with pytest.raises(PackageCorrupt, match=r"'manifest\.json' .* no such file"):
        Package.load(tmp_path)
    package.save(tmp_path)
    assert Package.load(tmp_path) == package


def test_a_servable_scores_as_the_fitted_model_and_alone_as_in_a_batch(package: Package) -> None:
    sample = toy_sample(60, seed=9)
    servable = Servable(package)
    scores = servable.score(sample.features)
    matrix, carriers = sample.features.matrix, sample.features.categories["carrier"]
    alone = [
        servable.score(replace_rows(sample.features, matrix[i : i + 1], carriers[i : i + 1]))[0]
        for i in range(60)
    ]
    assert alone == scores.tolist()
    assert servable.score(replace_rows(sample.features, matrix[:0], [])).shape == (0,)


def replace_rows(features: Any, matrix: Any, carriers: list[str | None]) -> Any:
    return replace(features, matrix=matrix, categories={"carrier": carriers})


def test_contributions_add_up_to_the_log_odds(package: Package) -> None:
    sample = toy_sample(40, seed=9)
    servable = Servable(package)
    scores = servable.score(sample.features)
    parts = servable.contributions(sample.features)
    assert parts.shape == (40, 4)
    np.testing.assert_allclose(parts.sum(axis=1), np.log(scores / (1 - scores)), atol=1e-9)
    nothing = replace_rows(sample.features, sample.features.matrix[:0], [])
    assert servable.contributions(nothing).shape == (0, 4)


def test_an_estimator_without_contributions_says_so() -> None:
    linear = Estimator("sklearn.ensemble:RandomForestClassifier", {"n_estimators": 3})
    servable = Servable(toy_package(NOON, estimator=linear))
    with pytest.raises(ExplanationRefused, match="no tree contributions"):
        servable.contributions(toy_sample(2).features)
