"""Feast's historical retrieval, a contender of `latest_offline`; imports nothing of ours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.contest import Case, Partial, Work

__all__ = ["dask"]

VALUES = [f"v{i}" for i in range(10)]
MOST_JOINED = 30_000_000
"""About 8 GB: every event of an entity is joined to every row about it before one is chosen."""


def dask(case: Case) -> Work | str:
    """get_historical_features with the default offline store, from Parquet to a frame."""
    joined = case["events"] / case["entities"] * case["spine"]
    if joined > MOST_JOINED:
        return f"not run: it joins {joined / 1e6:.0f} M rows before it chooses"
    from benchmarks.feast_repository import repository

    source = case.folder / "events"
    store = repository(
        case.folder / "feast", VALUES, source, {"type": "sqlite", "path": ":memory:"}
    )

    def work() -> Partial:
        spine = pd.read_parquet(case.folder / "spine.parquet")
        spine = spine.rename(columns={"at": "event_timestamp"})
        spine["row"] = np.arange(len(spine))
        job = store.get_historical_features(spine, [f"profile:{name}" for name in VALUES])
        found = job.to_df().sort_values("row")
        return Partial(
            found[VALUES].to_numpy(np.float64), found["row"].to_numpy(), asked=len(spine)
        )

    return work
