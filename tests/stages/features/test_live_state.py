"""Live state: bounded, honest about what it has let go, and never confused between entities."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.adapters.lmdb import LmdbStore, StoreFull
from homeostat.aggregate.exact import ValueRefused
from homeostat.core.errors import HomeostatError
from homeostat.core.ids import event_tie
from homeostat.core.store import Store
from homeostat.declare.aggregations import Aggregation, count, last, mean, sum_
from homeostat.declare.sources import Entity
from homeostat.declare.views import FeatureView
from homeostat.features.fold import ViewFold
from homeostat.features.keys import (
    KeyCodec,
    KeyInvalid,
    older_prefix,
    page_prefix,
    view_prefix,
)
from homeostat.features.offline import point_in_time
from homeostat.features.read import StateGone, ViewReader
from homeostat.testing.executions import small_records
from homeostat.testing.generators import START, TICK, events_frame, readings
from homeostat.testing.memory_store import MemoryStore

PLACE = Entity("place", "place")
BOTH = Entity("both", ("place", "site"))


def view_of(*made: Aggregation, entity: Entity = PLACE, name: str = "v") -> FeatureView:
    return FeatureView(name, entity, readings, made)


def reading(number: int, **fields: Any) -> dict[str, Any]:
    known = fields.pop("known", START + number * TICK)
    at = fields.pop("at", known)
    name = fields.pop("id", f"e{number}")
    row = {
        "id": name, "at": at, "place": "a", "site": 1, "amount": 1.0, "small": 1.0, "units": 1,
        "level": 1, "flag": True, "_offset": number, "_known_time": known, "_event_time": at,
        "_id": name, "_tie": event_tie(name), "_too_late": False,
    }  # fmt: skip
    return {**row, **fields}


def folded(view: FeatureView, rows: list[dict[str, Any]], step: int = 1) -> MemoryStore:
    fold, store = ViewFold(view), MemoryStore()
    prepared = fold.prepare(events_frame(rows))
    with store.writer() as writer:
        for begin in range(0, len(rows), step):
            fold.apply(writer, prepared, begin, min(begin + step, len(rows)))
    return store


def read(view: FeatureView, store: MemoryStore, at: int, *key: Any) -> list[float]:
    with store.reader() as reader:
        found: list[float] = ViewReader(view).read(reader, [key or ("a",)], at)[0].tolist()
    return found


@pytest.mark.parametrize("step", [1, 7, 3000])
def test_a_busy_entity_stays_small(step: int) -> None:
    view = replace(view_of(count().over("1m"), sum_("level")), exclude_own=False)
    rows = [reading(n, level=n) for n in range(3000)]
    store = folded(view, rows, step)
    with store.reader() as reader:
        size = len(reader.get(view_prefix(view) + b"a") or b"")
    # Two minutes of rows at one per ten seconds, each of 5 words, and what amortising leaves.
    assert 0 < size < 40 * 5 * 8
    assert read(view, store, START + 2999 * TICK + 1) == [6.0, 2999 * 1500.0]


def test_a_read_of_the_past_is_refused_and_says_what_to_do() -> None:
    view = view_of(count().over("1m"))
    store = folded(view, [reading(n) for n in range(200)])
    with pytest.raises(StateGone, match=r"evicted.*compute older values from the lake"):
        read(view, store, START + 10 * TICK)


def test_an_event_older_than_everything_kept_still_counts_in_the_whole_history() -> None:
    view = view_of(count(), last("level"), count().over("1m").named("recent"))
    rows = [reading(n, level=n) for n in range(200)]
    rows.append(reading(200, level=-1, at=START - TICK))
    store = folded(view, rows)
    assert read(view, store, START + 200 * TICK + 1) == [201.0, 199.0, 5.0]


def test_a_late_event_lands_in_its_place() -> None:
    view = view_of(last("level").over("10m"), count().over("1m"))
    rows = [reading(n, level=n) for n in range(5)]
    rows.append(reading(5, level=77, at=START + TICK // 2))
    assert read(view, folded(view, rows), START + 5 * TICK + 1) == [4.0, 6.0]


def test_what_another_definition_folded_is_never_read() -> None:
    old, new = view_of(count()), view_of(count(), sum_("level"))
    store = folded(old, [reading(0)])
    assert read(old, store, START + 1) == [1.0]
    assert read(new, store, START + 1)[0] == 0.0


def test_keys_of_several_parts_are_not_confused() -> None:
    view = view_of(count(), entity=BOTH)
    rows = [reading(0, place="a1", site=2), reading(1, place="a", site=12)]
    store = folded(view, rows)
    for key, seen in ((("a1", 2), 1.0), (("a", 12), 1.0), (("a12", 0), 0.0), (("a", 1), 0.0)):
        assert read(view, store, START + TICK + 1, *key) == [seen]


def test_a_missing_key_part_has_no_history() -> None:
    view = view_of(count(), mean("amount"), entity=BOTH)
    store = folded(view, [reading(0, place=None), reading(1, site=None)])
    found = read(view, store, START + TICK + 1, None, 1)
    assert found[0] == 0.0
    assert np.isnan(found[1])


def test_a_key_of_the_wrong_type_is_named() -> None:
    codec = KeyCodec(view_of(count(), entity=BOTH))
    with pytest.raises(KeyInvalid, match=r"'site'.*'7' is a str; allowed: a integer"):
        codec.key(("a", "7"))


def test_keys_longer_than_the_store_allows(tmp_path: Any) -> None:
    view, fold = view_of(count()), ViewFold(view_of(count()))
    rows = [reading(0, place="x" * 2000 + "1"), reading(1, place="x" * 2000 + "2")]
    store = LmdbStore(tmp_path / "store", map_size=2**20)
    with store.writer() as writer:
        fold.apply(writer, fold.prepare(events_frame(rows)), 0, 2)
    with store.reader() as reader:
        found = ViewReader(view).read(reader, [("x" * 2000 + "1",)], START + TICK + 1)
    store.close()
    assert found.tolist() == [[1.0]]


def fill(store: LmdbStore, rows: int) -> None:
    with store.writer() as writer:
        for n in range(rows):
            writer.put(b"%d" % n, bytes(1000))


def fail(store: Store) -> None:
    with store.writer() as writer:
        writer.put(b"a/1", b"changed")
        writer.delete(b"b")
        writer.delete(b"never there")
        _ = 1 // 0


def test_a_full_store_says_so(tmp_path: Any) -> None:
    store = LmdbStore(tmp_path / "store", map_size=2**16)
    with pytest.raises(StoreFull, match="larger map_size"):
        fill(store, 1000)
    with store.reader() as reader:
        assert reader.get(b"0") is None
    store.close()


@pytest.mark.parametrize("kind", ["memory", "lmdb"])
def test_a_store_keeps_a_whole_transaction_or_nothing(kind: str, tmp_path: Any) -> None:
    store: Any = (
        MemoryStore() if kind == "memory" else LmdbStore(tmp_path / "store", map_size=2**20)
    )
    with store.writer() as writer:
        writer.put(b"a/1", b"one")
        writer.put(b"a/2", b"two")
        writer.put(b"b", b"other")
        assert writer.get(b"a/1") == b"one"
        assert [*writer.scan(b"a/")] == [(b"a/1", b"one"), (b"a/2", b"two")]
        assert [*writer.scan(b"zz")] == []
    with pytest.raises(ZeroDivisionError):
        fail(store)
    with store.reader() as snapshot:
        with store.writer() as writer:
            writer.delete(b"b")
        assert snapshot.get(b"a/1") == b"one"
        assert snapshot.get(b"b") == b"other"
    with store.reader() as reader:
        assert reader.get(b"b") is None
    store.close()


LARGE = 2.0**51


@pytest.mark.parametrize("step", [1, 5000])
def test_sums_that_could_wrap_are_exact_or_missing(step: int) -> None:
    view = view_of(sum_("amount").over("10s", "1h"), mean("amount").over("10s"), count())
    rows = [reading(n, amount=LARGE - n) for n in range(3000)]
    store = folded(view, rows, step)
    at = START + 2999 * TICK + 1
    expected = float(LARGE - 2999)
    wanted = [repr(value) for value in (expected, nan, expected, 3000.0)]
    assert [repr(value) for value in read(view, store, at)] == wanted
    found = point_in_time(view, events_frame(rows), spine(at))
    assert [repr(value) for value in found[0].tolist()] == wanted


@pytest.mark.parametrize("step", [1, 300])
def test_large_sums_are_missing_in_pages_too(step: int) -> None:
    view = view_of(sum_("amount").over("10s", "1h"), mean("amount").over("10s"))
    rows = [reading(n, amount=LARGE - n) for n in range(300)]
    with small_records(4):
        store = folded(view, rows, step)
        assert len(pages_of(view, store)) > 50
        found = read(view, store, START + 299 * TICK + 1)
        assert [repr(value) for value in found] == [repr(LARGE - 299), "nan", repr(LARGE - 299)]


def test_large_sums_of_recent_rows_are_judged_without_pages() -> None:
    view = view_of(sum_("amount").over("30s", "10s"), sum_("amount"))
    rows = [reading(n, amount=LARGE - n) for n in range(300)]
    with small_records(4):
        store = folded(view, rows, 300)
        with store.writer() as writer:
            for key in pages_of(view, store):
                writer.delete(key)
        found = read(view, store, START + 299 * TICK + 1)
    assert [repr(value) for value in found] == ["nan", repr(LARGE - 299), "nan"]


def pages_of(view: FeatureView, store: MemoryStore) -> list[bytes]:
    with store.reader() as reader:
        return [key for key, _ in reader.scan(page_prefix(view))]


def test_pages_are_dropped_with_what_no_window_reaches() -> None:
    view = replace(view_of(sum_("level").over("5m"), count()), exclude_own=False)
    rows = [reading(n, level=n) for n in range(400)]
    with small_records(2):
        store = folded(view, rows, 7)
        # Five minutes and a minute of slack at one row per ten seconds, and a page or two.
        assert 10 < len(pages_of(view, store)) < 25
        at = START + 399 * TICK + 1
        assert read(view, store, at) == [float(sum(range(370, 400))), 400.0]


def test_a_page_that_is_missing_is_said_with_what_to_do() -> None:
    view = view_of(sum_("level").over("5m"))
    with small_records(2):
        store = folded(view, [reading(n) for n in range(30)])
        with store.writer() as writer:
            for key in pages_of(view, store):
                writer.delete(key)
        with pytest.raises(HomeostatError, match=r"page \d+ .*is missing.*homeostat apply"):
            read(view, store, START + 30 * TICK + TICK // 2)


def test_pages_of_entities_with_like_keys_are_not_confused() -> None:
    view = view_of(sum_("level").over("10m"))
    names = ["a", "a" + "\0" * 8, "a" + "\0" * 7 + "\1"]
    rows = [reading(n, place=names[n % 3], level=n) for n in range(60)]
    with small_records(1):
        store = folded(view, rows, 11)
        found = [read(view, store, START + 60 * TICK, name) for name in names]
    assert found == [[float(sum(range(first, 60, 3)))] for first in range(3)]


class Counted:
    """A transaction that counts the bytes that are put."""

    def __init__(self, writer: Any) -> None:
        self._writer, self.bytes = writer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def put(self, key: bytes, value: bytes | memoryview) -> None:
        self.bytes += len(value)
        self._writer.put(key, value)


def test_an_event_rewrites_the_recent_rows_alone() -> None:
    view = view_of(sum_("level").over("1h"), mean("level").over("10m"))
    rows = [reading(n, level=n) for n in range(300)]
    fold, store = ViewFold(view), MemoryStore()
    prepared = fold.prepare(events_frame(rows))
    with store.writer() as writer:
        counted = Counted(writer)
        for place in range(300):
            fold.apply(counted, prepared, place, place + 1)
    assert read(view, store, START + 299 * TICK + 1)[0] == float(sum(range(300)))
    with store.reader() as reader:
        size = sum(len(value) for _, value in reader.scan(older_prefix(view)))
    assert size > 200 * 4 * 8  # all rows are there,
    assert counted.bytes < 300 * size / 4  # and most writes leave them alone


def stored(view: FeatureView, store: MemoryStore) -> tuple[int, int]:
    """Return how many records a view has, and how many of them have older rows apart."""
    with store.reader() as reader:
        found = [list(reader.scan(of(view))) for of in (view_prefix, older_prefix)]
    return len(found[0]), len(found[1])


@pytest.mark.parametrize("step", [1, 50])
def test_older_rows_go_when_no_window_reaches_them(step: int) -> None:
    view = view_of(sum_("level").over("1h"))
    rows = [reading(n, level=n) for n in range(200)]
    assert stored(view, folded(view, rows, step)) == (1, 1)
    day = 8_640
    rows += [reading(n, known=START + (day + n) * TICK, level=n) for n in range(200, 250)]
    store = folded(view, rows, step)
    assert read(view, store, START + (day + 249) * TICK + 1) == [float(sum(range(200, 250)))]
    rows += [reading(250, known=START + 2 * day * TICK, level=1)]
    store = folded(view, rows, step)
    assert stored(view, store)[0] == 1
    assert read(view, store, START + 2 * day * TICK + 1) == [1.0]


def test_older_rows_that_are_missing_are_said_with_what_to_do() -> None:
    view = view_of(sum_("level").over("1h"))
    store = folded(view, [reading(n) for n in range(200)])
    with store.writer() as writer:
        for key, _ in list(writer.scan(older_prefix(view))):
            writer.delete(key)
    with pytest.raises(HomeostatError, match=r"older rows .* are missing.*homeostat apply"):
        read(view, store, START + 200 * TICK)


def spine(at: int) -> Any:
    instant = pl.lit(at).cast(pl.Datetime("us", "UTC"))
    return events_frame([reading(0)]).select("place", at=instant)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_refused_by_name(value: float) -> None:
    fold = ViewFold(view_of(sum_("amount").over("1h")))
    with pytest.raises(ValueRefused, match=r"column 'amount'.*quarantine the event"):
        fold.prepare(events_frame([reading(0, amount=value)]))


def test_keys_of_every_type_are_their_own() -> None:
    flagged = FeatureView("v", Entity("f", ("place", "flag")), readings, (count().over("1h"),))
    codec = KeyCodec(flagged)
    assert len({codec.key((place, flag)) for flag in (True, False) for place in ("", "a")}) == 4
    assert codec.key((None, True)) is None
    assert codec.key(("a", None)) is None
    with pytest.raises(HomeostatError, match="a key of 1 parts; allowed: 2"):
        codec.key(("a",))
