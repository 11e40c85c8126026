"""A lake in two places reads like one that never moved a day, wherever a process was killed."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.clock import to_micros
from homeostat.declare.schema import EventSchema, Field
from homeostat.lake.events import Span
from homeostat.lake.sql import query
from homeostat.lake.tables import Lake, LakeMismatch
from homeostat.lake.tiered import COLD, ColdMissing, DaysDeleted, TieredLake

START = datetime(2024, 2, 27, tzinfo=UTC)
FIRST = START.date()
OLD = EventSchema("Tap", (Field("card", "string"), Field("amount", "integer", nullable=True)))
NEW = EventSchema(
    "Tap",
    (
        Field("card", "string"),
        Field("value", "float", nullable=True, aliases=("amount",)),
        Field("amount", "float", nullable=True),
        Field("place", "string", nullable=True, default="shop"),
    ),
)


def rows(first: int, count: int, hours: int, schema: EventSchema = OLD) -> pl.DataFrame:
    """Return consecutive events, one every `hours`."""
    offsets = range(first, first + count)
    frame = pl.DataFrame(
        {
            "card": [f"card {n % 3}" for n in offsets],
            "amount": [None if n % 4 == 0 else n for n in offsets],
            "_offset": offsets,
            "_known_time": [START + timedelta(hours=hours * n) for n in offsets],
        },
        schema={
            "card": pl.String(), "amount": pl.Int64(), "_offset": pl.Int64(),
            "_known_time": pl.Datetime("us", "UTC"),
        },
    )  # fmt: skip
    if schema is OLD:
        return frame
    return frame.with_columns(
        pl.col("amount").cast(pl.Float64), value=pl.col("amount").cast(pl.Float64) / 2,
        place=pl.lit(None, pl.String),
    )  # fmt: skip


class Pair:
    """A lake in two places, and its slow twin: the same appends to one that knows no tiers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.schema = folder, OLD
        self.offset, self.hours, self.commits = 0, 5, 0
        self.deleted: date | None = None
        self.versions: dict[int, int] = {}
        self.open()

    def open(self) -> None:
        events = {"taps": self.schema}
        keys = {"taps": ("card",)}
        self.tiered = TieredLake(self.folder / "hot", self.folder / "cold", None, events, keys)
        self.twin = Lake(self.folder / "twin", events=events)

    def append(self, count: int) -> None:
        frame = rows(self.offset, count, self.hours, self.schema)
        self.offset += count
        for lake in (self.tiered, self.twin):
            assert lake.append("taps", frame, "fold", self.commits)
        self.commits += 1
        self.versions[self.tiered.version("taps")] = self.twin.version("taps")

    def day(self, place: float) -> date | None:
        """Return one of the hot days but the newest."""
        days = self.tiered.days("taps")[:-1]
        return days[min(int(place * len(days)), len(days) - 1)] if days else None

    def cut_off(self) -> None:
        """Be killed when a day is in the cold place, and has not left the hot one."""
        first = self.tiered.days("taps")[0]
        assert self.tiered.cold is not None
        self.tiered.evolve("taps")
        frame = self.tiered._stored_day("taps", first)
        self.tiered.cold.append("taps", frame, COLD, first.toordinal())

    def expected(self, span: Span, version: int | None = None) -> pl.DataFrame:
        at = None if version is None else self.versions[version]
        found = self.twin.read("taps", None, span.end, known_from=span.begin, version=at)
        if self.deleted is not None:
            found = found.filter(pl.col("_known_time").dt.date() > self.deleted)
        return found

    def compare(self, span: Span, version: int | None = None) -> None:
        expected = self.expected(span, version)
        try:
            found = self.tiered.read("taps", None, span.end, known_from=span.begin, version=version)
        except DaysDeleted:
            assert version is not None
            everything = self.twin.read("taps", version=self.versions[version])
            assert everything["_known_time"].dt.date().min() <= self.deleted  # type: ignore[operator]
            return
        assert found.equals(expected.select(found.columns))
        assert found.columns == expected.columns
        events = self.tiered.events("taps", span, version)
        names = ["_offset", *[f.name for f in self.schema.fields]]
        parts = [events.read(part, names) for part in events.parts]
        assert [part.height for part in parts] == [p.stop - p.start for p in events.parts]
        inside = pl.concat(parts).filter(pl.col("_offset").is_in(expected["_offset"].to_list()))
        if not all(map(events.is_log, events.parts)):
            inside = inside.sort("_offset")  # sorted days are put in order where they are used
        assert inside.equals(expected.select(names))
        for name in names:
            assert events.gaps(name) or not inside[name].null_count()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 12)),
        st.tuples(st.just("move"), st.floats(0, 1)),
        st.tuples(st.just("cut off"), st.just(0)),
        st.tuples(st.just("delete"), st.floats(0, 0.4)),
        st.tuples(st.sampled_from(["compact", "evolve", "sweep", "vacuum", "reopen"]), st.just(0)),
    ),
    max_size=12,
)


@given(steps, st.lists(st.tuples(st.integers(-10, 400), st.integers(0, 400)), max_size=3))
def test_it_reads_like_a_lake_that_never_moved(
    done: list[tuple[str, float]], spans: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder))
        pair.append(9)
        for step, much in done:
            day = pair.day(much)
            if step == "append":
                pair.append(int(much))
            elif step == "move" and day is not None:
                pair.tiered.move("taps", day)
            elif step == "cut off" and day is not None:
                pair.cut_off()
            elif step == "delete" and day is not None:
                pair.tiered.delete("taps", day)
                pair.deleted = day
            elif step == "compact":
                pair.tiered.compact("taps")
            elif step == "vacuum":
                pair.tiered.vacuum("taps", pair.versions, hours=0)
            elif step == "sweep":
                pair.tiered.sweep("taps", 0)
            elif step in ("evolve", "reopen"):
                pair.schema = NEW if step == "evolve" else pair.schema
                pair.open()
            pair.compare(Span())
        instants = [to_micros(START + timedelta(hours=h)) for h, _ in spans]
        for begin, (_, hours) in zip(instants, spans, strict=True):
            end = begin + hours * 3_600_000_000
            for span in (Span(begin, end), Span(None, end), Span(begin, None)):
                pair.compare(span)
        for version in pair.versions:
            pair.compare(Span(), version)
            pair.compare(Span(to_micros(START + timedelta(days=2)), None), version)
        count = "SELECT count(*), sum(_offset), count(DISTINCT _day), sum(amount) FROM taps"
        every = pair.expected(Span())
        assert query(pair.tiered, count).row(0) == (
            every.height,
            every["_offset"].sum(),
            every["_known_time"].dt.date().n_unique(),
            every["amount"].sum() if every["amount"].count() else None,
        )


@pytest.fixture
def lake(tmp_path: Path) -> TieredLake:
    lake = TieredLake(tmp_path / "hot", tmp_path / "cold")
    for first in range(0, 60, 10):
        lake.append("taps", rows(first, 10, 5), "fold", first)
    return lake


def test_days_are_in_one_place(lake: TieredLake) -> None:
    before = lake.read("taps")
    assert lake.move("taps", FIRST + timedelta(days=3)) == 20
    assert [day.day for day in lake.days("taps", "cold")] == [27, 28, 29, 1]
    assert not {*lake.days("taps")} & {*lake.days("taps", "cold")}
    assert lake.cold is not None
    assert lake.cold.read("taps").height + Lake(lake.folder).read("taps").height == before.height
    assert lake.read("taps").equals(before)
    assert lake.move("taps", FIRST + timedelta(days=3)) == 0
    assert not lake.append("taps", rows(50, 10, 5), "fold", 50)


def test_files_of_moved_days_are_swept_and_versions_stay_readable(lake: TieredLake) -> None:
    past = lake.read("taps", version=2)
    lake.move("taps", FIRST + timedelta(days=5))
    assert lake.sweep("taps", 1) == 0, "readers that began before still find them"
    freed = lake.sweep("taps", 0)
    assert freed > 0
    folder = lake.folder / "taps"
    for day in range(6):
        assert list((folder / f"_day={FIRST + timedelta(day)}").glob("*")) == []
    assert lake.sweep("taps", 0) == 0
    assert lake.read("taps", version=2).equals(past)


def test_deleted_days_are_gone_and_said_to_be(lake: TieredLake) -> None:
    lake.move("taps", FIRST + timedelta(days=4))
    lake.delete("taps", FIRST + timedelta(days=2))
    lake.sweep("taps", 0)
    assert lake.read("taps")["_known_time"].dt.date().min() == FIRST + timedelta(days=3)
    with pytest.raises(DaysDeleted, match="version 1: it had days up to 2024-02-29"):
        lake.read("taps", version=1)
    later = to_micros(START + timedelta(days=3))
    assert lake.read("taps", known_from=later, version=2).height == 15
    lake.append("taps", rows(60, 3, 5), "fold", 60)
    assert lake.loses("taps", lake.version("taps"), FIRST + timedelta(days=5))
    assert not lake.loses("taps", lake.version("taps"), FIRST + timedelta(days=2))


def test_a_lake_without_its_cold_place_says_so(lake: TieredLake) -> None:
    lake.move("taps", FIRST)
    alone = TieredLake(lake.folder)
    with pytest.raises(ColdMissing, match="up to 2024-02-27 are in a cold place"):
        alone.read("taps")
    with pytest.raises(LakeMismatch, match="lakes with a cold place"):
        alone.move("taps", FIRST)


class Cut(Exception):
    """The process ends here."""


@pytest.mark.parametrize("step", ["append", "remove"])
def test_cut_off_between_the_two_commits_nothing_is_lost(
    lake: TieredLake, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lake.read("taps")

    def cut(*given: object) -> None:
        raise Cut

    with monkeypatch.context() as broken:
        if step == "append":
            broken.setattr(lake.cold, "append", cut)
        else:
            broken.setattr(lake, "_remove", cut)
        with pytest.raises(Cut):
            lake.move("taps", FIRST + timedelta(days=2))
    again = TieredLake(lake.folder, lake.folder.parent / "cold")
    assert again.read("taps").equals(before)
    again.move("taps", FIRST + timedelta(days=2))
    assert again.read("taps").equals(before)
    assert [day.day for day in again.days("taps", "cold")] == [27, 28, 29]
    assert Lake(lake.folder).read("taps").height == before.height - 15
