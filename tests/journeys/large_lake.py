"""Builds features from a large lake, in a process of its own whose memory is measured."""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from homeostat.features.offline import point_in_time
from homeostat.lake.tables import Lake
from homeostat.runtime.building import Builder
from homeostat.testing.toy import TOY_START, toy_system

EVENTS, STEP_US, CARDS = 2_000_000, 40_000, 5_000


def fill(lake: Lake) -> None:
    """Append a day of payments."""
    draw = np.random.default_rng(1)
    for numbers in np.split(np.arange(EVENTS), 4):
        at = TOY_START + pl.Series(numbers * STEP_US).cast(pl.Duration("us"))
        names = pl.Series(numbers).cast(pl.String)
        frame = pl.DataFrame(
            {
                "payment_id": names,
                "card": cards(draw, len(numbers)),
                "merchant": names,
                "amount": draw.lognormal(3, 1, len(numbers)),
                "asked_at": at,
                "_offset": numbers,
                "_known_time": at,
                "_event_time": at,
                "_id": names,
                "_tie": numbers,
                "_too_late": np.zeros(len(numbers), bool),
            }
        )
        lake.append("payments", frame, "fold", int(numbers[0]))


def cards(draw: np.random.Generator, rows: int) -> pl.Series:
    """Return keys."""
    return "card-" + pl.Series(draw.integers(0, CARDS, rows)).cast(pl.String)


def build(lake: Lake, *, bounded: bool) -> dict[str, object]:
    """Build the features of all cards at instants of the last hours."""
    draw, system = np.random.default_rng(2), toy_system()
    end = TOY_START + timedelta(microseconds=EVENTS * STEP_US)
    instants = [end - timedelta(seconds=int(s)) for s in draw.integers(0, 30_000, 20_000)]
    spine = pl.DataFrame({"card": cards(draw, 20_000), "at": instants})
    few = pl.read_parquet(lake.files("payments")[0], n_rows=100)
    # Libraries are loaded, and loops compiled, before the memory is measured.
    point_in_time(system.view("cards"), few, spine.head(10))
    lake.events("payments")
    begin, planned = forget_peak(), 0
    if bounded:
        builder = Builder(system, lake.events, 10_000_000)
        planned = builder.plan(["cards"], spine, lake).memory
        found = builder.views(["cards"], spine).select(pl.col("^cards__.*$")).to_numpy()
    else:
        found = point_in_time(system.view("cards"), lake.read("payments"), spine)
    digest = hashlib.sha256(np.ascontiguousarray(found).tobytes()).hexdigest()
    return {"peak": peak() - begin, "planned": planned, "values": digest}


def peak() -> int:
    """Return the most memory this process has had since it began or forgot, in bytes."""
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak() -> int:
    """Begin to measure the peak again; return the memory in use, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


if __name__ == "__main__":
    part, folder = sys.argv[1:]
    if part == "fill":
        fill(Lake(Path(folder)))
    else:
        sys.stdout.write(json.dumps(build(Lake(Path(folder)), bounded=part == "bounded")))
