"""Loaded model versions: each package is read once, and a broken one becomes a known fault."""

from __future__ import annotations

from collections.abc import Callable

from homeostat.core.errors import HomeostatError
from homeostat.deploy.state import RolloutState
from homeostat.serve.ports import Broken
from homeostat.serve.routing import Arm, Route, load_arm
from homeostat.train.package import Package
from homeostat.train.registry import Registry
from homeostat.train.servable import Servable

__all__ = ["Arms"]


class Arms:
    """Loads packages and arms from a registry, and keeps them."""

    def __init__(self, registry: Registry, faults: Callable[[str, Exception], None]) -> None:
        self._registry, self._faults = registry, faults
        self._packages: dict[tuple[str, int], Package] = {}
        self._arms: dict[tuple[str, int], Arm] = {}

    def package(self, model: str, version: int) -> Package:
        """Return a package; raise what the registry raises if it is damaged."""
        key = (model, version)
        if key not in self._packages:
            self._packages[key] = self._registry.load(model, version)
        return self._packages[key]

    def arm(self, model: str, version: int | None) -> Arm | None:
        """Return a version ready to score; a broken one stands for its fallback. None for None."""
        if version is None:
            return None
        key = (model, version)
        if key not in self._arms:
            self._arms[key] = self._load(model, version)
        return self._arms[key]

    def _load(self, model: str, version: int) -> Arm:
        try:
            package = self.package(model, version)
        except (HomeostatError, OSError) as broken:
            self._faults("load", broken)
            return Arm(version, Broken(f"version {version} cannot be loaded: {broken}"), 1.0)
        return load_arm(version, package.threshold, lambda: Servable(package), self._faults)

    def loads(self, model: str, version: int | None) -> bool:
        """Return whether a version is there and can score: the rehearsal of a way back."""
        arm = self.arm(model, version)
        return arm is not None and not isinstance(arm.servable, Broken)

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
