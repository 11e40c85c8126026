"""Names that the fields of a request had in earlier declarations, which clients may still send."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.declare.models import Model
from homeostat.declare.system import System
from homeostat.deploy.state import RolloutState
from homeostat.ingest.schema_versions import SchemaRegistry
from homeostat.runtime.in_service import in_roles
from homeostat.serve.former_fields import former_names
from homeostat.train.package import Package

__all__ = ["FormerName", "former_in_plan", "known_before"]


@dataclass(frozen=True, slots=True)
class FormerName:
    """A name under which requests may still bring a field, "" where the field is gone."""

    model: str
    field: str
    read_as: str

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"model": self.model, "field": self.field, "read_as": self.read_as or None}


def known_before(
    system: System,
    schemas: SchemaRegistry,
    states: Callable[[str], RolloutState],
    package: Callable[[str, int], Package],
) -> dict[str, frozenset[str]]:
    """Return by deployed model the names that registered schemas and packages in service have.

    Args:
        system: the declarations.
        schemas: every schema that was ever in force.
        states: where the rollout of a model stands.
        package: loads a version.
    """
    found: dict[str, frozenset[str]] = {}
    for deployment in system.deployments:
        model = deployment.model
        names = _registered(schemas, model)
        for version in in_roles(states(model.name)):
            with suppress(HomeostatError, OSError):  # its arm is broken, and says why
                names |= _of_package(package(model.name, version))
        found[model.name] = frozenset(names)
    return found


def former_in_plan(
    system: System, schemas: SchemaRegistry, changed: Iterable[str]
) -> tuple[FormerName, ...]:
    """Return the former names of the requests whose sources have another schema now."""
    sources = set(changed)
    return tuple(
        FormerName(model.name, name, now)
        for model in (deployment.model for deployment in system.deployments)
        if model.label.predicts.name in sources
        for name, now in former_names(
            model.label.predicts.schema, _registered(schemas, model)
        ).items()
    )


def _registered(schemas: SchemaRegistry, model: Model) -> set[str]:
    versions = schemas.list(model.label.predicts.name)
    return {name for one in versions for name in one.schema.names()}


def _of_package(package: Package) -> set[str]:
    manifest: Mapping[str, Any] | None = package.declared or package.former
    fields = manifest["label"]["predicts"]["schema"]["fields"] if manifest else ()
    return {str(field["name"]) for field in fields}
