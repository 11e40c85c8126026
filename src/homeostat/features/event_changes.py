"""Where a lake's rows are not what the log decodes to, and the lake with some of it put right."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

__all__ = ["EventChanges"]

MARK = "_too_late"


@dataclass(frozen=True, slots=True, eq=False)
class EventChanges:
    """The rows of one source in the lake against those of its log, by offset.

    `erased` are offsets of the log that the lake lacks, `altered` those whose row differs in more
    than its mark of lateness, or that the lake holds twice, `foreign` those that only the lake has,
    `remarked` those whose mark differs; `gone` are in neither, though no dead letter says why.
    `fields` says by altered offset what differs.
    """

    lake: pl.DataFrame
    log: pl.DataFrame
    erased: frozenset[int]
    altered: frozenset[int]
    foreign: frozenset[int]
    remarked: frozenset[int]
    gone: frozenset[int]
    fields: dict[int, tuple[str, ...]]

    @classmethod
    def of(cls, lake: pl.DataFrame, log: pl.DataFrame, unread: frozenset[int]) -> EventChanges:
        """Compare frames of the same columns; of offsets that are unread the log says nothing."""
        held, logged = set(lake["_offset"].to_list()), set(log["_offset"].to_list())
        names = [name for name in lake.columns if name not in ("_offset", "_tie")]
        pairs = lake.join(log, on="_offset", suffix="!log")
        unlike = pairs.select(
            "_offset", *(pl.col(name).ne_missing(pl.col(f"{name}!log")) for name in names)
        )
        contents = [name for name in names if name != MARK]
        changed = unlike.filter(pl.any_horizontal(contents))
        fields = {
            int(row["_offset"]): tuple(name for name in contents if row[name])
            for row in changed.iter_rows(named=True)
        }
        twice = lake.filter(pl.col("_offset").is_duplicated())["_offset"].to_list()
        fields |= {int(offset): () for offset in twice if offset not in fields}
        return cls(
            lake,
            log,
            erased=frozenset(logged - held),
            altered=frozenset(fields) & logged,
            foreign=frozenset(held - logged - unread),
            remarked=frozenset(unlike.filter(MARK)["_offset"].to_list()) - frozenset(fields),
            gone=unread - held,
            fields=fields,
        )

    def with_erased(self) -> pl.DataFrame:
        """Return the lake with its erased rows put back."""
        return self._with(self.erased)

    def with_altered(self) -> pl.DataFrame:
        """Return the lake with its altered rows as the log has them, and without foreign ones."""
        return self._with(self.altered, without=self.foreign)

    def with_marks(self) -> pl.DataFrame:
        """Return the lake with the log's marks of lateness."""
        return self._with(self.remarked)

    def as_logged(self) -> pl.DataFrame:
        """Return the log's rows, and the lake's where the log cannot be read."""
        touched = self.erased | self.altered | self.remarked
        return self._with(touched, without=self.foreign)

    def _with(self, offsets: Collection[int], without: Collection[int] = ()) -> pl.DataFrame:
        replaced = pl.col("_offset").is_in([*offsets])
        kept = self.lake.filter(~pl.col("_offset").is_in([*offsets, *without]))
        return pl.concat([kept, self.log.filter(replaced)]).sort("_offset")
