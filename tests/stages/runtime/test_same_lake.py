"""A home remembers where its days are, from the first one that lies there."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from homeostat.declare.storage import Storage
from homeostat.lake.tables import Lake
from homeostat.runtime.same_lake import OtherLake, Places, kept_places, places_of


def test_a_cold_place_may_be_changed_until_a_day_is_there(tmp_path: Path) -> None:
    home, one, two = (tmp_path / name for name in ("home", "one", "two"))
    home.mkdir()
    places_of(home, Storage(cold=str(one)))
    assert places_of(home, Storage()) == Places(home / "lake", None)
    places_of(home, Storage(cold=str(two)))
    assert kept_places(home) == Places(home / "lake", str(two))
    Lake(two).append("taps", pl.DataFrame({"_offset": [1]}).with_columns(
        _known_time=pl.datetime(2024, 3, 4, time_zone="UTC")), "tier", 1)  # fmt: skip
    for storage in (Storage(), Storage(cold=str(one))):
        with pytest.raises(OtherLake, match="cold days: they are in "):
            places_of(home, storage)
    assert places_of(home, Storage(cold=str(two))).cold == str(two)


def test_the_hot_place_stays(tmp_path: Path) -> None:
    places_of(tmp_path, Storage())
    with pytest.raises(OtherLake, match="hot days: they are in 'lake'"):
        places_of(tmp_path, Storage(location=str(tmp_path / "other")))
