"""Who events are: their ids as text, and the digests of these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import polars as pl

from homeostat.core.ids import number_ties
from homeostat.core.row_threads import RowThreads
from homeostat.declare.sources import EventSource
from homeostat.ingest.event_columns import EventColumns

__all__ = ["Identities", "identities"]

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Identities:
    """The ids of n rows: `digests` (`core.ids.id_digest`), `ties` (`core.ids.event_tie`) and which
    are `empty`, of shape (n,)."""

    columns: EventColumns
    field: str
    digests: Int64s
    ties: Int64s
    empty: npt.NDArray[np.bool_]

    def series(self, rows: Int64s) -> pl.Series:
        """Return the ids of some rows as text."""
        return self.columns.series(self.field, rows).cast(pl.String)


def identities(columns: EventColumns, source: EventSource, threads: RowThreads) -> Identities:
    """Return the ids of all rows; those of rows that are no events mean nothing."""
    from homeostat.core.tie_loops import text_ties
    from homeostat.ingest.digests import text_digests

    place = columns.place(source.event_id)
    starts, lengths, extra = columns.words[place], columns.lengths[place], columns.extra
    body = columns.body
    if columns.schema.fields[place].kind != "string":
        texts = pl.Series(columns.numbers(source.event_id)).cast(pl.String)
        lengths = texts.str.len_bytes().to_numpy().astype(np.int64)
        body = np.frombuffer("".join(texts.to_list()).encode(), np.uint8)
        starts = np.cumsum(lengths) - lengths
    digests = np.empty(len(columns), np.int64)
    # Rows that are no events may say anything, also where a text begins.
    starts = np.where(columns.valid, starts, 0)
    lengths = np.where(columns.valid, lengths, 0)
    loop = partial(text_digests, body, extra, starts, lengths, digests)
    threads.run(len(columns), loop)
    if columns.schema.fields[place].kind == "integer":
        ties = number_ties(columns.numbers(source.event_id))
    else:
        ties = np.empty(len(columns), np.int64)
        loop = partial(text_ties, body, extra, starts, lengths, digests, ties)
        threads.run(len(columns), loop)
    return Identities(columns, source.event_id, digests, ties, lengths == 0)
