"""A Feast repository in a folder, for contenders that run in Feast's own environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64

__all__ = ["repository"]


def repository(folder: Path, names: list[str], source: Path, online: dict[str, Any]) -> Any:
    """Return an applied store with one view, `profile`, of Float64 fields by card.

    Args:
        folder: where its registry is; made anew.
        names: of the fields.
        source: Parquet, with `card`, `_event_time` and the fields.
        online: the settings of the online store.
    """
    folder.mkdir(parents=True, exist_ok=True)
    registry = folder / "registry.db"
    registry.unlink(missing_ok=True)
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(registry),
            online_store=online,
            offline_store={"type": "dask"},
            entity_key_serialization_version=3,
        )
    )
    card = Entity(name="card", join_keys=["card"], value_type=ValueType.INT64)
    fields = [Field(name="card", dtype=Int64), *(Field(name=n, dtype=Float64) for n in names)]
    kept = FileSource(name="kept", path=str(source), timestamp_field="_event_time")
    store.apply([card, FeatureView(name="profile", entities=[card], schema=fields, source=kept)])
    return store
