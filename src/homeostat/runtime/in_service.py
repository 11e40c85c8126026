"""The versions that are in service, and the definitions by which each is given its features.

In service are, of every deployed model, the champion, the challenger and the way back. A package
is served by its own manifest; one of an earlier release, which has none, by what was declared when
this release met it, if that has the hashes the package has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from homeostat.core.errors import HomeostatError, UnknownName
from homeostat.declare.system import System
from homeostat.declare.views import FeatureView
from homeostat.deploy.state import RolloutState, is_given_up
from homeostat.features.keys import view_stem
from homeostat.features.manifest import Bound, Lost, ManifestInvalid, NotKept, bind
from homeostat.train.lineage import definition_hashes
from homeostat.train.package import Package
from homeostat.train.registry import Registry

__all__ = [
    "NotDeployed",
    "Serving",
    "bound_package",
    "in_roles",
    "in_service",
    "kept_views",
    "undeployed",
    "until",
    "views_needed",
]

ROLE_WORDS = {
    "champion": "the champion",
    "challenger": "the challenger",
    "previous": "the way back",
}


class NotDeployed(HomeostatError):
    """A model with a champion that no deployment names any more."""

    def __init__(self, model: str) -> None:
        self.advice = (
            f"keep the deployment of model {model!r}, beside that of another name if it is to "
            "have one, until that has a champion of its own"
        )
        super().__init__(
            f"model {model!r} is not deployed any more, so nothing answers its requests; allowed: "
            f"a deployment of every model that has a champion; {self.advice}"
        )


@dataclass(frozen=True, slots=True)
class Serving:
    """One version in service: what computes its features, or why nothing does.

    `given_up` says that it may stop answering.
    """

    model: str
    version: int
    role: str
    bound: Bound | None
    problem: HomeostatError | None = None
    given_up: bool = False

    @property
    def name(self) -> str:
        """The version as people write it."""
        return f"{self.model}@{self.version}"

    @property
    def lost(self) -> tuple[Lost, ...]:
        """The features that cannot be computed any more."""
        return self.problem.lost if isinstance(self.problem, NotKept) else ()


def bound_package(system: System, package: Package) -> Bound:
    """Return the declarations that compute a package's features.

    Raises:
        NotKept: the present declarations lack code, fields or sources that it needs.
        UnknownName: the model is not declared any more.
    """
    model = system.model(package.name)
    if package.declared:
        return bind(package.declared, system, model)
    former = _as_former(system, package)
    if former is not None:
        return former
    today = definition_hashes(system, model)
    names = model.feature_names()
    lost = [
        Lost(
            name,
            "it is defined otherwise now, and a package of this age does not say how it was",
            f"declare model {model.name!r} as it was, train it once with this release (the new "
            "package keeps its definitions), and change it then",
        )
        for name in package.features
        if today.get(name) != package.definitions.get(name)
    ]
    if not lost and package.features != names:
        name = next((a for a, b in zip(package.features, names, strict=False) if a != b), names[-1])
        lost = [Lost(name, "the model has its features in another order now, or others", "give "
                     "the model the features that it had, in their order")]  # fmt: skip
    if lost:
        raise NotKept(model.name, tuple(lost))
    return Bound(system, model)


def _as_former(system: System, package: Package) -> Bound | None:
    """Return what a package without definitions was trained by, if that was written down.

    It is that if all its features have the hashes that the package has.

    Raises:
        NotKept: the present declarations lack code, fields or sources that it needs.
    """
    if not package.former:
        return None
    try:
        bound = bind(package.former, system, system.model(package.name))
    except ManifestInvalid:  # of a release that wrote declarations in another way
        return None
    is_it = definition_hashes(bound.system, bound.model) == package.definitions
    return bound if is_it and bound.model.feature_names() == package.features else None


def in_service(
    system: System, registry: Registry, states: Mapping[str, RolloutState]
) -> tuple[Serving, ...]:
    """Return the versions in service of every deployed model, by model and role."""
    names = [deployment.model.name for deployment in system.deployments]
    by_name = {name: states.get(name, RolloutState()) for name in names}
    return tuple(
        replace(_serving(system, registry, name, version, role), given_up=is_given_up(s, version))
        for name, s in by_name.items()
        for version, role in in_roles(s).items()
    )


def undeployed(
    system: System, before: Mapping[str, Any] | None, states: Mapping[str, RolloutState]
) -> tuple[Serving, ...]:
    """Return the champions of models that were deployed when `before` was applied, and are not."""
    deployed = {deployment.model.name for deployment in system.deployments}
    names = [body["model"]["name"] for body in (before or {}).get("deployments", ())]
    left = [(name, states.get(name, RolloutState())) for name in names if name not in deployed]
    return tuple(
        Serving(name, s.champion, "champion", None, NotDeployed(name), s.given_up)
        for name, s in left
        if s.champion is not None
    )


def in_roles(state: RolloutState) -> dict[int, str]:
    """Return the versions in service with their roles.

    >>> in_roles(RolloutState(champion=3, previous=2))
    {3: 'champion', 2: 'previous'}
    """
    found = {getattr(state, role): role for role in ROLE_WORDS}
    return {version: role for version, role in found.items() if version is not None}


def _serving(system: System, registry: Registry, model: str, version: int, role: str) -> Serving:
    try:
        bound = bound_package(system, registry.load(model, version))
    except (HomeostatError, UnknownName, OSError) as problem:
        told = problem if isinstance(problem, HomeostatError) else HomeostatError(str(problem))
        return Serving(model, version, role, None, told)
    return Serving(model, version, role, bound)


def until(users: Sequence[Serving]) -> str:
    """Return until when what only these versions need is kept, as a person says it."""
    names = [one.name for one in users]
    roles = sorted({ROLE_WORDS[one.role] for one in users})
    is_are = "is" if len(names) == 1 else "are"
    return f"until {' and '.join(names)} {is_are} no longer {' or '.join(roles)}"


def views_needed(system: System, serving: Iterable[Serving]) -> tuple[FeatureView, ...]:
    """Return the views whose live state is kept up: today's, then those of versions in service."""
    return (*system.views, *kept_views(system, (one.bound for one in serving)))


def kept_views(system: System, bounds: Iterable[Bound | None]) -> tuple[FeatureView, ...]:
    """Return the views that only packages in service still read, each definition once."""
    today = {view_stem(view) for view in system.views}
    older = {view_stem(view): view for bound in bounds if bound is not None for view in bound.views}
    return tuple(view for stem, view in older.items() if stem not in today)
