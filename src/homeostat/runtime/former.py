"""Packages of an earlier release are given what was declared when this release met them.

They hold the hashes of their features and not the definitions; `applied.json` of that release holds
all that was declared. It is kept beside each package before other declarations are applied, and
believed only where its hashes are those of the package (`in_service.bound_package`).
"""

from __future__ import annotations

from pathlib import Path

from homeostat.features.manifest import manifest_of, names_of
from homeostat.runtime.plan import applied, has_state_format
from homeostat.train.registry import Registry

__all__ = ["keep_declared"]


def keep_declared(folder: Path, registry: Registry) -> None:
    """Keep what an earlier release had applied to a home beside the packages it has made."""
    old = applied(folder)
    if old is None or has_state_format(old):
        return
    for body in old.get("models", ()):
        manifest = manifest_of(old, body["name"])
        if manifest is not None:
            registry.keep_former(body["name"], names_of(manifest), manifest)
