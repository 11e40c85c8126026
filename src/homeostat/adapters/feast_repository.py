"""Writes a Feast repository about a system: its views with us as online store, and its history.

Feast reads a folder of Parquet whole. A folder of the lake also holds files that its table has
left behind (a compaction, a rewrite), so the repository has files of its own, as of one moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl

from homeostat.adapters.feast_server import whole_features
from homeostat.core.errors import HomeostatError
from homeostat.declare.sources import EventSource
from homeostat.declare.system import System, model_inputs
from homeostat.declare.views import FeatureRef, FeatureView
from homeostat.features.offline import point_in_time

__all__ = ["FeastRepositoryTaken", "history", "write_repository"]

Events = Callable[[str], pl.DataFrame]
"""Returns the events frame of a source by name, in the order of its log."""

_MADE = "Made by `homeostat features export --feast`; the next export overwrites it."
_TYPES = {"string": "String", "integer": "Int64", "boolean": "Bool"}
_KEPT = ("_offset", "_known_time", "_event_time", "_too_late")
"""What an exported event carries besides its own fields."""

_IMPORTS = """\
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Bool, Float64, Int64, String
"""


class FeastRepositoryTaken(HomeostatError):
    """A folder with a Feast repository that somebody else made."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"folder {folder}: its feature_store.yaml was not written by an export; allowed: a new "
            "folder, or one that an export has written; name another"
        )


def write_repository(
    system: System, folder: Path, events: Events, address: str
) -> dict[str, dict[str, int]]:
    """Write `feature_store.yaml`, `features.py` and `data/`; return the rows of each data file.

    Args:
        system: the declarations.
        folder: where to; an earlier export in it is replaced.
        events: the events of each source, as they are known now.
        address: where `homeostat run` answers, such as http://127.0.0.1:8000.
    """
    settings = folder / "feature_store.yaml"
    if settings.exists() and _MADE not in settings.read_text():
        raise FeastRepositoryTaken(folder)
    for name in ("events", "history"):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, int]] = {"events": {}, "history": {}}
    for source in system.sources:
        heard = events(source.name)
        frames = [("events", source.name, _events(system, source, heard))]
        frames += [("history", v.name, history(v, heard)) for v in _views_of(system, source)]
        for kind, name, frame in frames:
            frame.write_parquet(folder / "data" / kind / f"{name}.parquet")
            rows[kind][name] = frame.height
    (folder / "features.py").write_text("\n".join(_definitions(system)))
    settings.write_text(_settings(system, address))
    return rows


def history(view: FeatureView, events: pl.DataFrame) -> pl.DataFrame:
    """Return the features of each entity at the instants when an event of it became known.

    A row has the keys, `event_timestamp`, and what was known strictly before it. Between two
    rows windows slide and values change, so a row is true of its own instant only.
    """
    keys = list(view.entity.keys)
    spine = events.select(*keys, at=pl.col("_known_time")).drop_nulls().unique(maintain_order=True)
    values = point_in_time(view, events, spine)
    whole = whole_features(view)
    columns = [
        pl.Series(spec.name, values[:, place]).fill_nan(None)
        for place, spec in enumerate(view.features())
    ]
    return spine.select(*keys, event_timestamp="at").with_columns(
        column.cast(pl.Int64) if column.name in whole else column for column in columns
    )


def _events(system: System, source: EventSource, frame: pl.DataFrame) -> pl.DataFrame:
    """Leave out personal fields that are no key of a view, and our own digests."""
    keys = {key for view in _views_of(system, source) for key in view.entity.keys}
    fields = [f.name for f in source.schema.fields if f.name in keys or not f.is_personal]
    return frame.select(*fields, *_KEPT)


def _views_of(system: System, source: EventSource) -> list[FeatureView]:
    return [view for view in system.views if view.source.name == source.name]


def _settings(system: System, address: str) -> str:
    return f"""\
# {_MADE}
project: {system.name}
provider: local
registry: data/registry.db
online_store:
  type: remote
  path: {address.rstrip("/")}
offline_store:
  type: dask
entity_key_serialization_version: 3
"""


def _definitions(system: System) -> Iterator[str]:
    """Yield the parts of `features.py`; every name is an identifier, so it can be part of one."""
    yield f'"""{_MADE}"""\n'
    yield _IMPORTS
    for source in system.sources:
        yield (
            f"events_{source.name} = FileSource(\n"
            f'    name="events_{source.name}",\n'
            f'    path="data/events/{source.name}.parquet",\n'
            '    timestamp_field="_event_time",\n'
            '    created_timestamp_column="_known_time",\n'
            ")\n"
        )
    entities = {name: text for view in system.views for name, text in _entities(view)}
    yield from entities.values()
    for view in system.views:
        yield _view(view)
    for model in system.models:
        needs = [need for need in model_inputs(model) if isinstance(need, FeatureRef)]
        wanted: dict[str, list[str]] = {}
        for need in needs:
            wanted.setdefault(need.view, []).append(need.feature)
        if wanted:
            chosen = "".join(f"        view_{v}[{names!r}],\n" for v, names in wanted.items())
            yield (
                f"service_{model.name} = FeatureService(\n"
                f'    name="{model.name}",\n'
                f"    features=[\n{chosen}    ],\n"
                ")\n"
            )


def _entities(view: FeatureView) -> Iterator[tuple[str, str]]:
    """Yield a name and a definition per key: a Feast entity has one."""
    for key, name in zip(view.entity.keys, _entity_names(view), strict=True):
        kind = view.source.schema.field(key, view.name).kind
        yield (
            name,
            (
                f"entity_{name} = Entity(\n"
                f'    name="{name}", join_keys=["{key}"], '
                f"value_type=ValueType.{_TYPES[kind].upper()}\n"
                ")\n"
            ),
        )


def _entity_names(view: FeatureView) -> list[str]:
    entity = view.entity
    if len(entity.keys) == 1:
        return [entity.name]
    return [f"{entity.name}_{key}" for key in entity.keys]


def _view(view: FeatureView) -> str:
    schema = view.source.schema
    whole = whole_features(view)
    fields = [(key, _TYPES[schema.field(key, view.name).kind]) for key in view.entity.keys]
    fields += [(s.name, "Int64" if s.name in whole else "Float64") for s in view.features()]
    lines = "".join(f'        Field(name="{name}", dtype={kind}),\n' for name, kind in fields)
    entities = ", ".join(f"entity_{name}" for name in _entity_names(view))
    return f"""\
view_{view.name} = FeatureView(
    name="{view.name}",
    entities=[{entities}],
    schema=[
{lines}    ],
    source=FileSource(
        name="history_{view.name}",
        path="data/history/{view.name}.parquet",
        timestamp_field="event_timestamp",
    ),
    ttl=timedelta(microseconds=1),  # a value of the past is true of its own instant only
)
"""
