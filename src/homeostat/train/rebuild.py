"""Trains a packaged model again from its lineage, and says whether it is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from homeostat.train.lineage import Lineage, library_versions
from homeostat.train.package import Package, differences

__all__ = ["Rebuilt", "rebuild"]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The outcome of a rebuild: `differing` names the parts of the package that changed.

    `libraries` holds (then, now) for each library whose version changed in between.
    """

    expected: str
    found: str
    differing: tuple[str, ...]
    libraries: dict[str, tuple[str, str]]

    @property
    def is_same(self) -> bool:
        """Whether the rebuilt model has the same content hash."""
        return self.expected == self.found

    def __str__(self) -> str:
        if self.is_same:
            return f"rebuilt to the same hash {self.found}"
        changed = ", ".join(f"{n} {then} -> {now}" for n, (then, now) in self.libraries.items())
        return (
            f"rebuilt to {self.found}, not {self.expected}; different: "
            f"{', '.join(self.differing)}; libraries changed: {changed or 'none'}"
        )


def rebuild(package: Package, train: Callable[[Lineage], Package]) -> Rebuilt:
    """Train again and compare content hashes.

    Args:
        package: the model to prove.
        train: reads the lineage's tables at their versions and trains as of its instant.

    Returns:
        Both hashes, and what differs if they do.
    """
    again = train(package.lineage)
    now = library_versions()
    return Rebuilt(
        expected=package.hash,
        found=again.hash,
        differing=tuple(part for part in differences(package, again) if part != "lineage"),
        libraries={
            name: (then, now.get(name, "not installed"))
            for name, then in package.lineage.libraries.items()
            if now.get(name) != then
        },
    )
