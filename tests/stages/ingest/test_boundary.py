"""Cursors of local times: no row is missed when an hour comes twice, and none is taken twice."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from homeostat.ingest.boundary import Boundary
from homeostat.ingest.local_times import is_repeated, repeated_since


def text(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S")


@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Berlin", datetime(2024, 10, 27, 1, tzinfo=UTC)),
        ("America/New_York", datetime(2024, 11, 3, 6, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2024, 4, 6, 15, tzinfo=UTC)),  # half an hour
        ("Europe/Berlin", datetime(2024, 3, 31, 1, tzinfo=UTC)),  # an hour is left out
        ("Asia/Kolkata", datetime(2024, 3, 31, 1, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_every_row_is_taken_once_over_a_change_of_the_clocks(
    zone: str, change: datetime, as_text: bool
) -> None:
    local = ZoneInfo(zone)
    for seed in range(20):
        rng = random.Random(seed)
        written = sorted(change + timedelta(seconds=rng.randint(-9_000, 9_000)) for _ in range(60))
        rows: list[tuple[object, str]] = []
        taken: list[str] = []
        said: str | None = None
        for number, at in enumerate(written):
            value = at.astimezone(local).replace(tzinfo=None)
            rows.append((text(value) if as_text else value, f"{number:016x}"))
            if rng.random() < 0.4 or number == 59:
                boundary = Boundary(said, 0, "taps", local)
                start = boundary.start
                asked = [row for row in rows if start is None or row[0] >= start]  # type: ignore[operator]
                for each, digest in sorted(asked, key=lambda row: (str(row[0]), row[1])):
                    if boundary.takes(each, digest):
                        taken.append(digest)
                boundary.forget()
                said = boundary.text()
        assert sorted(taken) == [digest for _, digest in rows], seed


def test_the_repeated_hour_is_found() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    for value, wanted in [
        ("2024-10-27 02:59:59.999999", "2024-10-27 02:00:00"),
        ("2024-10-27T02:00:00", "2024-10-27T02:00:00"),
        ("2024-10-27 03:00:00", "2024-10-27 03:00:00"),
        ("2024-10-27 01:59:59", "2024-10-27 01:59:59"),
        ("2024-10-27 02:30:00+01:00", "2024-10-27 02:30:00+01:00"),
        ("2024-03-31 02:30:00", "2024-03-31 02:30:00"), ("no instant", "no instant"),
    ]:  # fmt: skip
        assert repeated_since(value, berlin) == wanted
    assert repeated_since(7, berlin) == 7
    assert not is_repeated("2024-10-27 02:30:00", None)
