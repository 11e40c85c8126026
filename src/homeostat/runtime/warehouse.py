"""A home as a warehouse: the lake's tables, and beside them what else it knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import canonical_json
from homeostat.declare.system import System
from homeostat.ingest.deadletters import DeadLetters
from homeostat.lake.sql import Warehouse
from homeostat.runtime.home import lake_of
from homeostat.runtime.journal import Journal
from homeostat.runtime.loading import load_system
from homeostat.runtime.same_lake import kept_places
from homeostat.train.package import Package
from homeostat.train.registry import Registry

__all__ = ["BESIDE", "HomeWarehouse", "beside", "connect"]

_INSTANT = pl.Datetime("us", "UTC")


class Records(Protocol):
    """What a home knows beside its lake and its features; a `Home` is one."""

    journal: Journal
    registry: Registry
    letters: DeadLetters


class _Records:
    """The records of a home, opened alone: another part of this process may have the home."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "meta.db")
        self.registry = Registry(folder / "meta.db", folder / "packages")
        self.letters = DeadLetters(folder / "meta.db")

    def close(self) -> None:
        """Close the files."""
        for part in (self.journal, self.registry, self.letters):
            part.close()


class HomeWarehouse(Warehouse):
    """A `Warehouse` of a home, with `decisions`, `metrics` and `dead_letters` beside the lake."""

    def __init__(self, system: System, folder: Path) -> None:
        self._folder, self._places = folder, kept_places(folder)
        with closing(_Records(folder)) as records:
            super().__init__(lake_of(self._places, system), beside(records))

    def refresh(self, extra: Mapping[str, pl.DataFrame] | None = None) -> None:
        """Make the views again, of everything as it is now."""
        if kept_places(self._folder) != self._places:
            raise HomeostatError(
                f"lake of home {str(self._folder)!r}: it has got a cold place since; allowed: a "
                "connection that knows all its places; connect again"
            )
        if extra is None:
            with closing(_Records(self._folder)) as records:
                extra = beside(records)
        super().refresh(extra)


def connect(system: System | str | Path, home: str | Path = "state") -> HomeWarehouse:
    """Return a DuckDB connection with everything a home knows, to be asked and not changed.

    A view per source (SOURCE, and SOURCE_known_at(instant): as it was known then), one per deployed
    model (predictions_MODEL), and tables `decisions`, `metrics` and `dead_letters`. It works beside
    a process that runs the home, and shows what was committed when it was made, or last refreshed.

    Args:
        system: the declarations, or the path of their file.
        home: the folder of a home that is there.
    """
    declared = system if isinstance(system, System) else load_system(Path(system))
    folder = Path(home)
    if not (folder / "meta.db").exists():
        raise HomeostatError(
            f"home {str(folder)!r}: there is none; allowed: the folder of a home that has begun; "
            "begin it with `homeostat run`, or name another"
        )
    return HomeWarehouse(declared, folder)


def beside(home: Records, names: Iterable[str] | None = None) -> dict[str, pl.DataFrame]:
    """Return what a home knows beside its lake, by name; only the named tables where some are."""
    makers: dict[str, Callable[[], pl.DataFrame]] = {
        "decisions": lambda: _decisions(home.journal),
        "metrics": lambda: _metrics(home.registry),
        "dead_letters": lambda: _letters(home.letters),
    }
    wanted = BESIDE if names is None else names
    return {name: make() for name, make in makers.items() if name in wanted}


BESIDE = ("decisions", "metrics", "dead_letters")
"""The names of the tables that are not in the lake."""


def _decisions(journal: Journal) -> pl.DataFrame:
    rows = [
        (d.at, d.model, d.action, d.version, d.reason, canonical_json(d.evidence))
        for d in journal.decisions()
    ]
    return _frame(
        rows,
        {
            "at": _INSTANT, "model": pl.String, "action": pl.String, "version": pl.Int64,
            "reason": pl.String, "evidence": pl.String,
        },
    )  # fmt: skip


def _metrics(registry: Registry) -> pl.DataFrame:
    """Return what each version scored before it was deployed; undefined metrics are null."""
    rows = []
    for found in registry.list():
        try:
            package = registry.load(found.model, found.version)
        except (HomeostatError, OSError):  # a damaged package has no metrics to tell
            continue
        rows += [(found.at, found.model, found.version, *each) for each in _scores(package)]
    return _frame(
        rows,
        {
            "at": _INSTANT, "model": pl.String, "version": pl.Int64, "span": pl.String,
            "metric": pl.String, "value": pl.Float64,
        },
    )  # fmt: skip


def _scores(package: Package) -> list[tuple[str, str, float | None]]:
    return [
        (str(span), str(metric), None if value is None else float(value))
        for span, said in package.metrics.items()
        if isinstance(said, Mapping) and isinstance(said.get("metrics"), Mapping)
        for metric, value in said["metrics"].items()
    ]


def _letters(letters: DeadLetters) -> pl.DataFrame:
    rows = [
        (x.letter.source, x.letter.offset, x.letter.known, x.letter.reason, x.letter.detail,
         x.state, x.replayed_as)
        for x in letters.list(limit=-1)
    ]  # fmt: skip
    return _frame(
        rows,
        {
            "source": pl.String, "offset": pl.Int64, "known_time": _INSTANT, "reason": pl.String,
            "detail": pl.String, "state": pl.String, "replayed_as": pl.Int64,
        },
    )  # fmt: skip


def _frame(rows: list[tuple[Any, ...]], schema: dict[str, Any]) -> pl.DataFrame:
    held = {name: pl.Int64 if kind == _INSTANT else kind for name, kind in schema.items()}
    frame = pl.DataFrame(rows, schema=held, orient="row")
    return frame.with_columns(
        pl.col(name).cast(_INSTANT) for name, kind in schema.items() if kind == _INSTANT
    )
