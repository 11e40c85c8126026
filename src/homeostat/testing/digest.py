"""One text per part of a home: equal texts mean equal contents, to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import polars as pl

from homeostat.runtime.home import Home
from homeostat.runtime.prediction_history import prediction_table

__all__ = ["digest"]

MEASURED = ("latency_features_us", "latency_model_us", "latency_total_us")
"""Columns that hold wall-clock measurements; everything else must repeat."""


def _sha(parts: Iterable[bytes]) -> str:
    running = hashlib.sha256()
    for part in parts:
        running.update(len(part).to_bytes(8, "big") + part)
    return running.hexdigest()


def _rows(frame: pl.DataFrame) -> Iterator[bytes]:
    kept = frame.drop([name for name in MEASURED if name in frame.columns])
    yield ",".join(f"{name}:{dtype}" for name, dtype in sorted(kept.schema.items())).encode()
    lists = [name for name, dtype in kept.schema.items() if isinstance(dtype, pl.List)]
    bits = kept.with_columns(
        pl.col(name).list.eval(pl.element().cast(pl.Float64).reinterpret(signed=True))
        for name in lists
    )
    for row in bits.select(sorted(bits.columns)).iter_rows():
        yield repr(row).encode()


def digest(home: Home) -> dict[str, str]:
    """Return the digests of journal, models, lake tables, predictions, live state, dead letters."""
    found = {"journal": home.journal.hash()}
    versions = home.registry.list()
    found["models"] = _sha(f"{v.model}@{v.version}:{v.hash}".encode() for v in versions)
    for table in home.lake.tables():
        frame = home.lake.read(table)
        found[f"lake/{table}"] = _sha(_rows(frame))
    for deployment in home.system.deployments:
        name = deployment.model.name
        frames = list(home.predictions.frames(name))
        logged = pl.concat(frames).sort("at", "prediction_id") if frames else pl.DataFrame()
        found[f"log/{prediction_table(name)}"] = _sha(_rows(logged))
    with home.store.writer() as writer:
        found["online"] = _sha(part for pair in writer.scan(b"") for part in pair)
    letters = home.letters.list(limit=2**31)
    found["dead letters"] = _sha(repr(letter).encode() for letter in letters)
    return found
