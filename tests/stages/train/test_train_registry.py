"""The registry keeps every version once; a rebuild proves one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from homeostat.testing.toy_training import toy_package, toy_system
from homeostat.train.lineage import LIBRARIES, Lineage
from homeostat.train.package import Package, PackageCorrupt
from homeostat.train.rebuild import rebuild
from homeostat.train.registry import Registered, Registry, UnknownVersion

NOON = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def package() -> Package:
    return toy_package(NOON)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry.sqlite", tmp_path / "models")


def test_registering_again_changes_nothing(registry: Registry, package: Package) -> None:
    assert [registry.register(package, NOON) for _ in range(3)] == [1, 1, 1]
    assert registry.list() == (Registered("late_arrival", 1, package.hash, NOON),)
    assert registry.load("late_arrival", 1) == package
    registry.close()


def test_versions_count_up_for_each_model(registry: Registry, package: Package) -> None:
    other, changed = replace(package, name="../other"), replace(package, threshold=0.5)
    found = [
        registry.register(package, NOON),
        registry.register(package, NOON + 1),
        registry.register(changed, NOON + 1),
        registry.register(other, NOON),
        registry.register(package, NOON),
    ]
    assert found == [1, 2, 3, 1, 1]
    assert [r.version for r in registry.list("late_arrival")] == [1, 2, 3]
    assert registry.load("late_arrival", 3) == changed
    assert registry.load("../other", 1) == other
    assert len(registry.list()) == 4
    registry.close()


def test_a_registry_is_read_by_another_connection(
    registry: Registry, package: Package, tmp_path: Path
) -> None:
    version = registry.register(package, NOON)
    reader = Registry(tmp_path / "registry.sqlite", tmp_path / "models")
    assert reader.load("late_arrival", version) == package
    reader.close()
    registry.close()


def test_a_folder_that_a_crash_left_is_written_over(
    registry: Registry, package: Package, tmp_path: Path
) -> None:
    replace(package, threshold=0.9).save(tmp_path / "models" / "late_arrival@1")
    assert registry.list() == ()
    assert registry.register(package, NOON) == 1
    assert registry.load("late_arrival", 1) == package
    registry.close()


def test_a_registration_that_fails_leaves_no_version(
    registry: Registry, package: Package, tmp_path: Path
) -> None:
    (tmp_path / "models").write_text("in the way")
    with pytest.raises(OSError, match="models"):
        registry.register(package, NOON)
    (tmp_path / "models").unlink()
    assert registry.list() == ()
    assert registry.register(package, NOON) == 1
    registry.close()


def test_an_unknown_version_is_refused_with_the_known_ones(
    registry: Registry, package: Package
) -> None:
    with pytest.raises(UnknownVersion, match="no version 1; allowed: none are registered"):
        registry.load("late_arrival", 1)
    registry.register(package, NOON)
    with pytest.raises(UnknownVersion, match="no version 2; allowed: 1"):
        registry.load("late_arrival", 2)
    registry.close()


def test_a_folder_with_another_package_is_refused(
    registry: Registry, package: Package, tmp_path: Path
) -> None:
    registry.register(package, NOON)
    other = replace(package, threshold=0.9)
    other.save(tmp_path / "models" / "late_arrival@1")
    with pytest.raises(PackageCorrupt, match=f"found hash {other.hash}; allowed: {package.hash}"):
        registry.load("late_arrival", 1)
    registry.close()


def test_a_rebuild_proves_the_same_hash(package: Package) -> None:
    asked: list[Lineage] = []

    def train(lineage: Lineage) -> Package:
        asked.append(lineage)
        return toy_package(at=lineage.at)

    rebuilt = rebuild(package, train)
    assert asked == [package.lineage]
    assert rebuilt.is_same
    assert str(rebuilt) == f"rebuilt to the same hash {package.hash}"


def test_a_rebuild_that_differs_says_in_what_and_which_libraries_changed(
    package: Package,
) -> None:
    older = replace(
        package, lineage=replace(package.lineage, libraries={"numpy": "1.0", "gone": "2.0"})
    )
    rebuilt = rebuild(older, lambda _: replace(package, threshold=0.9))
    assert not rebuilt.is_same
    assert rebuilt.differing == ("threshold",)
    assert "different: threshold; libraries changed: numpy 1.0 -> " in str(rebuilt)
    assert rebuilt.libraries["gone"] == ("2.0", "not installed")


def test_a_lineage_names_what_trained_the_model(package: Package) -> None:
    lineage, system = package.lineage, toy_system()
    assert lineage.system == system.hash
    assert lineage.at == NOON
    assert lineage.tables == {"requests": 3}
    assert set(lineage.libraries) == set(LIBRARIES)
    assert Lineage(**lineage.as_json()) == lineage
