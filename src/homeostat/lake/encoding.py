"""How the lake's columns are written to Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from deltalake import WriterProperties

__all__ = ["writer_properties"]

_SAMPLE = 2_000
_REPEATED = 0.5
"""Texts get a dictionary if at most this share of a sample is different."""


def writer_properties(frame: pl.DataFrame) -> WriterProperties:
    """Return how a frame is written: Zstandard, and dictionaries where values are repeated.

    A dictionary of values that are all different is built, found too large and thrown away: that
    took a third of the time of a commit of events, and Snappy twice the bytes of Zstandard.
    Received bytes have no statistics: the largest of them would be there as a whole.
    """
    from deltalake import ColumnProperties, WriterProperties

    alone = ColumnProperties(dictionary_enabled=False)
    hidden = ColumnProperties(dictionary_enabled=False, statistics_enabled="NONE")
    sample = frame.head(_SAMPLE)
    unlike = {
        name: hidden if dtype == pl.Binary else alone
        for name, dtype in frame.schema.items()
        if dtype.is_float() or dtype.is_temporal() or dtype == pl.Binary or _is_unlike(sample[name])
    }
    return WriterProperties(compression="ZSTD", compression_level=1, column_properties=unlike)


def _is_unlike(values: pl.Series) -> bool:
    if values.dtype != pl.String and not values.dtype.is_integer():
        return False
    return values.n_unique() > _REPEATED * len(values)
