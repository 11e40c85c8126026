"""Loaded model versions: each package is read once, and a broken one becomes a known fault."""

from __future__ import annotations

from collections.abc import Callable, Collection

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import content_hash
from homeostat.declare.system import System
from homeostat.deploy.state import RolloutState
from homeostat.features.manifest import Bound
from homeostat.runtime.in_service import bound_package
from homeostat.serve.lookup import Lookup
from homeostat.serve.needs import Needs, needs_of_manifest
from homeostat.serve.ports import Broken
from homeostat.serve.routing import Arm, Route, load_arm
from homeostat.train.package import Package
from homeostat.train.registry import Registry
from homeostat.train.servable import Servable

__all__ = ["Arms"]


class Arms:
    """Loads packages and arms from a registry, and keeps those that are in service.

    Args:
        system: the declarations of today.
        registry: holds the packages.
        faults: told of what cannot be loaded.
        lacks: says what is missing of the live state that declarations need, "" if nothing is.
    """

    def __init__(
        self,
        system: System,
        registry: Registry,
        faults: Callable[[str, Exception], None],
        lacks: Callable[[Bound], str] = lambda bound: "",
    ) -> None:
        self._system, self._registry, self._faults = system, registry, faults
        self._lacks = lacks
        self._packages: dict[tuple[str, int], Package] = {}
        self._bounds: dict[tuple[str, int], Bound] = {}
        self._lookups: dict[str, Lookup] = {}
        self._arms: dict[tuple[str, int], Arm] = {}

    def package(self, model: str, version: int) -> Package:
        """Return a package; raise what the registry raises if it is damaged."""
        key = (model, version)
        found = self._packages.get(key)
        if found is None:
            found = self._packages[key] = self._registry.load(model, version)
        return found

    def bound(self, model: str, version: int) -> Bound:
        """Return the declarations by which a version is given its features.

        Raises:
            NotKept: those of today cannot compute them.
        """
        key = (model, version)
        found = self._bounds.get(key)
        if found is None:
            package = self.package(model, version)
            found = self._bounds[key] = bound_package(self._system, package)
        return found

    def arm(self, model: str, version: int | None) -> Arm | None:
        """Return a version ready to score; a broken one stands for its fallback. None for None."""
        if version is None:
            return None
        key = (model, version)
        found = self._arms.get(key)
        if found is None:
            found = self._arms[key] = self._load(model, version)
        return found

    def _load(self, model: str, version: int) -> Arm:
        try:
            package, bound = self.package(model, version), self.bound(model, version)
            lacks = self._lacks(bound)
            if lacks:
                raise HomeostatError(
                    f"version {version} of model {model!r}: {lacks}; allowed: a version whose live "
                    "features are kept up; fill them with `homeostat apply`"
                )
        except (HomeostatError, OSError) as broken:
            self._faults("load", broken)
            reason = f"version {version} cannot be loaded: {broken}"
            return Arm(version, Broken(reason), 1.0, needs=self._needs(model, version))
        lookup = None if bound.system is self._system else self._lookup(package, bound)
        return load_arm(version, package.threshold, lambda: Servable(package), self._faults, lookup)

    def _needs(self, model: str, version: int) -> Needs | None:
        """Return what requests bring for a version that answers nothing, None if nothing says it.

        It is the same as while it answered: what is declared now is asked of no client before.
        """
        try:
            package = self.package(model, version)
        except (HomeostatError, OSError):  # it is damaged, which its arm has told
            return None
        manifest = package.declared or package.former
        return needs_of_manifest(manifest, self._system.model(model)) if manifest else None

    def _lookup(self, package: Package, bound: Bound) -> Lookup:
        """Return what finds the features of a package; packages of the same ones share it."""
        key = content_hash(package.declared or package.former)
        if key not in self._lookups:
            self._lookups[key] = Lookup(bound.system, bound.model, None, self._faults)
        return self._lookups[key]

    def retain(self, model: str, versions: Collection[int]) -> None:
        """Let go of the other versions of a model; one that is asked for is loaded again."""
        for held in (self._packages, self._bounds, self._arms):
            for key in [key for key in tuple(held) if key[0] == model]:
                if key[1] not in versions:
                    held.pop(key, None)

    def loads(self, model: str, version: int | None) -> bool:
        """Return whether a version is there and can score: the rehearsal of a way back."""
        return version is not None and self.problem(model, version) is None

    def problem(self, model: str, version: int) -> str | None:
        """Return why a version cannot score, None if it can."""
        arm = self.arm(model, version)
        if arm is not None and isinstance(arm.servable, Broken):
            return arm.servable.reason
        return None

    def route(self, model: str, state: RolloutState) -> Route:
        """Return which versions answer a model's requests in this state."""
        return Route(
            champion=self.arm(model, state.champion),
            challenger=self.arm(model, state.challenger),
            previous=self.arm(model, state.previous),
            share=state.share,
            shadow=state.stage == "shadow",
            salt=state.salt,
        )
