"""Seen ids are judged as the oracle judges them, whatever the cuts, crashes and sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.adapters.lmdb import LmdbStore
from homeostat.core.store import Store, Writer
from homeostat.ingest.seen import CONFLICT, DUPLICATE, FRESH, SeenIds
from homeostat.ingest.seen_filter import SEGMENTS, IdFilter, segment_bounds
from homeostat.ingest.seen_loops import ordered
from homeostat.ingest.seen_merge import Sizes
from homeostat.ingest.seen_runs import SeenDamaged, order_of
from homeostat.testing.memory_store import MemoryStore
from homeostat.testing.seen_oracle import SeenRecord, expected_verdicts

LEAST, MOST = -(2**63), 2**63 - 1
HOSTILE = (LEAST, LEAST + 1, -1, 0, 1, 2**60 - 1, 2**60, MOST - 1, MOST)
"""Ties at the ends, and on both sides of where segments meet."""

TINY = Sizes(small=3, fan=2, chunk=2, effort=8, room=2, kept=20)


class Killed(Exception):
    """Ends a transaction as a crash would."""


@dataclass(frozen=True)
class Step:
    """What happens to the next records: they are taken by an instance, or that crashes.

    `size` records are taken. "fresh" makes the instance anew before, as a new process does; "lost"
    crashes before the commit; "again" goes back by `size` records after it, as far as is allowed.
    """

    kind: str
    size: int
    instance: int


@st.composite
def logs(draw: st.DrawFn) -> list[SeenRecord]:
    """Draw a log of few ids, so that most come again, with gaps and equal instants."""
    numbers = np.random.default_rng(draw(st.integers(0, 2**32)))
    count, most = draw(st.integers(1, 250)), draw(st.integers(1, 40))
    ties = [*HOSTILE, *numbers.integers(LEAST, MOST, 40).tolist()]
    numbers.shuffle(ties)
    known = np.cumsum(numbers.choice([0, 0, 0, 1, 1, 2, draw(st.sampled_from([2, 30]))], count))
    return [
        SeenRecord(ties[tie], (0, 1, LEAST, MOST)[content], offset, instant)
        for tie, content, offset, instant in zip(
            numbers.integers(0, most, count).tolist(),
            numbers.integers(0, draw(st.integers(1, 4)), count).tolist(),
            np.cumsum(numbers.integers(1, draw(st.integers(2, 4)), count)).tolist(),
            (known + draw(st.sampled_from([0, 10**15]))).tolist(),
            strict=True,
        )
    ]


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["taken", "taken", "taken", "fresh", "lost", "again"]),
        st.sampled_from([1, 2, 3, 5, 10, 30]),
        st.integers(0, 1),
    ),
    min_size=1,
    max_size=60,
)
SIZED = st.builds(
    Sizes, st.integers(1, 6), st.integers(2, 4), st.integers(1, 6), st.integers(1, 8),
    st.integers(1, 9), st.sampled_from([1, 5, 5, 30, 1_000]),
)  # fmt: skip
HORIZONS = st.sampled_from([None, 1, 2, 5, 10, 30])


def judge(
    seen: SeenIds, writer: Writer, records: Sequence[SeenRecord]
) -> dict[int, tuple[int, int]]:
    """Judge records, and return by offset verdict and remembered content."""
    columns = [
        np.array([getattr(record, name) for record in records], np.int64)
        for name in ("tie", "content", "offset", "known")
    ]
    found = seen.judge(writer, *columns)
    pairs = zip(found.verdicts.tolist(), found.remembered.tolist(), strict=True)
    return {record.offset: pair for record, pair in zip(records, pairs, strict=True)}


@dataclass(frozen=True)
class Setting:
    """How ids are remembered."""

    horizon_us: int | None
    sizes: Sizes

    def make(self) -> SeenIds:
        return SeenIds("taps", self.horizon_us, self.sizes)


def live(store: Store, setting: Setting, log: list[SeenRecord], steps: list[Step]) -> None:
    """Take a log by steps, then to its end, and compare every verdict with the oracle's."""
    expected = expected_verdicts(log, setting.horizon_us)
    instances = [setting.make(), setting.make()]
    at, furthest = 0, log[0].offset
    for step in [*steps, Step("taken", len(log), 0), Step("fresh", len(log), 1)]:
        if step.kind == "fresh":
            instances[step.instance] = setting.make()
        part = log[at : at + step.size]
        try:
            with store.writer() as writer:
                found = judge(instances[step.instance], writer, part)
                if step.kind == "lost":
                    raise Killed
        except Killed:
            pass
        else:
            at += len(part)
            furthest = max(furthest, part[0].offset) if part else furthest
        assert found == {offset: expected[offset] for offset in found}
        if step.kind == "again":
            back = max(at - step.size, 0)
            while back < at and log[back].offset < furthest - setting.sizes.kept:
                back += 1
            at = back


SETTINGS = st.builds(Setting, HORIZONS, SIZED)


@settings(max_examples=250, deadline=None)
@given(SETTINGS, logs(), STEPS)
def test_verdicts_are_those_of_the_oracle(
    setting: Setting, log: list[SeenRecord], steps: list[Step]
) -> None:
    live(MemoryStore(), setting, log, steps)


@settings(max_examples=60, deadline=None)
@given(SETTINGS, logs(), STEPS)
def test_verdicts_are_those_of_the_oracle_in_the_embedded_store(
    setting: Setting, log: list[SeenRecord], steps: list[Step]
) -> None:
    with TemporaryDirectory() as folder:
        store = LmdbStore(Path(folder), map_size=2**24, sync=False)
        live(store, setting, log, steps)
        store.close()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), HORIZONS)
def test_large_batches_are_judged_alike(seed: int, horizon_us: int | None) -> None:
    numbers = np.random.default_rng(seed)
    ids = numbers.integers(LEAST, MOST, 3_000)
    log = [
        SeenRecord(int(ids[number]), int(content), offset, offset // 40)
        for offset, (number, content) in enumerate(
            zip(numbers.integers(0, 3_000, 5_000), numbers.integers(0, 2, 5_000), strict=True)
        )
    ]
    steps = [Step("taken", int(size), 0) for size in numbers.integers(1, 900, 12)]
    sizes = Sizes(small=64, fan=4, chunk=100, effort=8, room=10, kept=500)
    live(MemoryStore(), Setting(horizon_us, sizes), log, steps)


def record(tie: int, content: int, offset: int, known: int) -> SeenRecord:
    return SeenRecord(tie, content, offset, known)


@pytest.mark.parametrize(
    ("later", "content", "verdict"),
    [
        (0, 1, DUPLICATE), (0, 2, CONFLICT), (60, 1, DUPLICATE), (60, 2, CONFLICT),
        (61, 1, FRESH), (61, 2, FRESH),
    ],
)  # fmt: skip
def test_the_horizon_is_included(later: int, content: int, verdict: int) -> None:
    store, seen = MemoryStore(), SeenIds("taps", 60)
    with store.writer() as writer:
        assert judge(seen, writer, [record(7, 1, 0, 100)]) == {0: (FRESH, 0)}
        remembered = 0 if verdict == FRESH else 1
        assert judge(seen, writer, [record(7, content, 1, 100 + later)]) == {
            1: (verdict, remembered)
        }


def test_a_duplicate_does_not_prolong_and_the_newest_entry_counts() -> None:
    store, seen = MemoryStore(), SeenIds("taps", 60)
    log = [record(7, 1, 0, 0), record(7, 1, 1, 50), record(7, 2, 2, 70), record(7, 2, 3, 130),
           record(7, 1, 4, 130), record(7, 1, 5, 131)]  # fmt: skip
    with store.writer() as writer:
        found = judge(seen, writer, log)
    assert [found[offset] for offset in range(6)] == [
        (FRESH, 0), (DUPLICATE, 1), (FRESH, 0), (DUPLICATE, 2), (CONFLICT, 2), (FRESH, 0),
    ]  # fmt: skip


def test_what_was_taken_stays_under_a_longer_horizon() -> None:
    store, log = MemoryStore(), [record(7, 1, 0, 0), record(7, 1, 1, 10), record(7, 2, 2, 12)]
    with store.writer() as writer:
        first = judge(SeenIds("taps", 5, TINY), writer, log)
        assert first == judge(SeenIds("taps", 60, TINY), writer, log)
        assert [first[offset] for offset in range(3)] == [(FRESH, 0), (FRESH, 0), (CONFLICT, 1)]
        later = judge(SeenIds("taps", 60, TINY), writer, [record(7, 1, 3, 70)])
        assert later == {3: (DUPLICATE, 1)}


def test_taking_a_stretch_again_writes_nothing() -> None:
    store, seen = MemoryStore(), SeenIds("taps", 5, TINY)
    log = [record(tie, 0, offset, 0) for offset, tie in enumerate(HOSTILE)]
    with store.writer() as writer:
        first = judge(seen, writer, log)
        before = dict(writer.scan(b""))
        assert judge(seen, writer, log) == first
        assert judge(SeenIds("taps", 5, TINY), writer, log[2:]) == {
            offset: first[offset] for offset in range(2, len(log))
        }
        assert dict(writer.scan(b"")) == before


def test_an_entry_that_comes_late_does_not_hide_a_newer_one() -> None:
    store, seen = MemoryStore(), SeenIds("taps", 60, Sizes(small=1))
    with store.writer() as writer:
        judge(seen, writer, [record(7, 1, 5, 100)])
        # A record that could not be read when it was taken first, and is now.
        assert judge(seen, writer, [record(7, 2, 3, 50)]) == {3: (FRESH, 0)}
        assert judge(seen, writer, [record(7, 1, 6, 105)]) == {6: (DUPLICATE, 1)}


def test_what_an_aborted_transaction_forgot_is_remembered() -> None:
    store = MemoryStore()
    seen = SeenIds("taps", 1, Sizes(small=1, room=3, kept=1))
    with store.writer() as writer:
        judge(seen, writer, [record(5, 1, 0, 0)])

    def read_ahead() -> None:
        with store.writer() as writer:
            for tie, offset in ((6, 100), (7, 102), (8, 104), (9, 106)):
                judge(seen, writer, [record(tie, 1, offset, offset)])
            assert not any(key[9:17] == bytes(8) for key, _ in writer.scan(b"ids/taps/"))
            raise Killed

    with pytest.raises(Killed):
        read_ahead()
    with store.writer() as writer:
        assert judge(seen, writer, [record(5, 1, 1, 1)]) == {1: (DUPLICATE, 1)}


def test_what_may_be_taken_again_is_kept_beyond_the_horizon() -> None:
    store, seen = MemoryStore(), SeenIds("taps", 10, Sizes(small=1, fan=2, chunk=1, kept=50))
    log = [record(5, 1, 0, 0), record(5, 1, 1, 3), record(6, 1, 2, 100), record(7, 1, 3, 100),
           record(8, 1, 4, 100)]  # fmt: skip
    with store.writer() as writer:
        first = judge(seen, writer, log[:3]) | judge(seen, writer, log[3:])
        assert [verdict for verdict, _ in first.values()] == [FRESH, DUPLICATE, *[FRESH] * 3]
        for begin in range(5):
            again = judge(SeenIds("taps", 10), writer, log[begin:])
            assert again == {offset: first[offset] for offset in range(begin, 5)}


def test_merges_keep_what_is_just_within_the_horizon() -> None:
    store = MemoryStore()
    seen = SeenIds("taps", 40, Sizes(small=1, fan=2, chunk=1, effort=1, kept=1))
    with store.writer() as writer:
        for begin in (0, 4):
            judge(seen, writer, [record(100 + at, 1, at, 0) for at in range(begin, begin + 4)])
        for at in range(8, 16):  # each lets the merge go on by one entry
            judge(seen, writer, [record(100 + at, 1, at, 40)])
        again = judge(seen, writer, [record(100 + at, 1, 16 + at, 40) for at in range(8)])
        assert again == {16 + at: (DUPLICATE, 1) for at in range(8)}
        later = judge(seen, writer, [record(100 + at, 1, 24 + at, 41) for at in range(8)])
        assert later == {24 + at: (FRESH, 0) for at in range(8)}


def test_what_another_process_did_in_place_of_an_aborted_one_is_remembered() -> None:
    store, one, other = MemoryStore(), SeenIds("taps", None), SeenIds("taps", None)

    def aborted() -> None:
        with store.writer() as writer:
            judge(one, writer, [record(1, 1, 0, 0)])
            raise Killed

    with pytest.raises(Killed):
        aborted()
    with store.writer() as writer:
        judge(other, writer, [record(2, 1, 0, 0)])
    with store.writer() as writer:
        assert judge(one, writer, [record(2, 1, 1, 0)]) == {1: (DUPLICATE, 1)}


def test_sources_do_not_see_each_other() -> None:
    store = MemoryStore()
    log = [record(tie, 0, offset, 0) for offset, tie in enumerate(HOSTILE)]
    with store.writer() as writer:
        for name in ("a", "a_", "b"):
            found = judge(SeenIds(name, None, TINY), writer, log)
            assert {verdict for verdict, _ in found.values()} == {FRESH}
        again = [record(r.tie, 0, r.offset + 100, 0) for r in log]
        for name in ("a", "a_", "b"):
            found = judge(SeenIds(name, None, TINY), writer, again)
            assert {verdict for verdict, _ in found.values()} == {DUPLICATE}


def test_nothing_is_asked_and_nothing_is_written_for_no_records() -> None:
    store = MemoryStore()
    with store.writer() as writer:
        assert judge(SeenIds("taps", None), writer, []) == {}
        assert [*writer.scan(b"")] == []


def filled(store: Store, horizon_us: int | None, batches: int) -> int:
    """Take batches of 5 new ids each, an instant apart; return the bytes in the store."""
    seen, numbers = SeenIds("taps", horizon_us, TINY), np.random.default_rng(1)
    for batch in range(batches):
        ties = numbers.integers(LEAST, MOST, 5).tolist()
        log = [record(tie, 0, 5 * batch + at, batch) for at, tie in enumerate(ties)]
        with store.writer() as writer:
            judge(seen, writer, log)
    with store.reader() as reader:
        return sum(len(value) for _, value in reader.scan(b""))


def test_what_is_beyond_the_horizon_is_forgotten_for_real() -> None:
    few, many = (filled(MemoryStore(), 10, batches) for batches in (200, 800))
    assert many < 1.3 * few
    assert filled(MemoryStore(), None, 800) > 800 * 5 * 32


def test_runs_are_merged_so_that_there_are_few() -> None:
    store = MemoryStore()
    filled(store, None, 800)
    with store.reader() as reader:
        numbers = {key[9:17] for key, _ in reader.scan(b"ids/taps/") if len(key) > 9}
    assert len(numbers) < 2 * 11  # there may be one of each power of two, and those being merged


def test_a_manifest_that_is_cut_off_is_told() -> None:
    store, seen = MemoryStore(), SeenIds("taps", None, TINY)
    log = [record(tie, 0, offset, 0) for offset, tie in enumerate(HOSTILE)]
    with store.writer() as writer:
        judge(seen, writer, log)
    whole = store._data[b"ids/taps/"]
    for broken in (whole[:-8], whole[:-3], b"", b"x" * 100):
        store._data[b"ids/taps/"] = broken
        with store.writer() as writer, pytest.raises(SeenDamaged, match="'taps': a manifest"):
            judge(seen, writer, log)


def test_a_run_that_is_gone_is_told() -> None:
    store = MemoryStore()
    log = [record(tie, 0, offset, 0) for offset, tie in enumerate(HOSTILE)]
    with store.writer() as writer:
        judge(SeenIds("taps", None, TINY), writer, log)
        for key, _ in [*writer.scan(b"ids/taps/")][1:]:
            writer.delete(key)
        with pytest.raises(SeenDamaged, match=r"nothing where chunk .* was"):
            judge(SeenIds("taps", None, TINY), writer, log)


TIES = st.lists(st.sampled_from(HOSTILE) | st.integers(LEAST, MOST), min_size=1, max_size=200)


@settings(deadline=None)
@given(TIES, st.data())
def test_the_order_is_that_of_lexsort(ties: list[int], data: st.DataObject) -> None:
    given_ties = np.array(ties, np.int64)
    offsets = np.array(
        data.draw(st.lists(st.integers(0, 9), min_size=len(ties), max_size=len(ties))), np.int64
    )
    assert order_of(given_ties, offsets).tolist() == np.lexsort((offsets, given_ties)).tolist()


def test_many_ties_in_one_place_are_left_to_another_order() -> None:
    ties = np.array([*range(100), MOST], np.int64)
    assert not ordered(ties, ties, np.empty(101, np.int64))
    assert order_of(ties, ties).tolist() == list(range(101))


@settings(deadline=None)
@given(st.lists(TIES, min_size=1, max_size=4), st.data())
def test_the_filter_never_holds_too_little(batches: list[list[int]], data: st.DataObject) -> None:
    seen, marked = IdFilter(), set[int]()
    for batch in batches:
        distinct = sorted(set(batch))
        hits = seen.mark(np.array(distinct, np.int64)).tolist()
        assert all(hit for tie, hit in zip(distinct, hits, strict=True) if tie in marked)
        marked |= set(distinct)
        segment = data.draw(st.integers(0, SEGMENTS - 1))
        least, greatest = segment_bounds(segment)
        inside = sorted(tie for tie in marked if least <= tie <= greatest)
        seen.rebuild(segment, [np.array(inside, np.int64)], 1.0)
    assert seen.mark(np.array(sorted(marked), np.int64)).all()


def test_the_filter_lets_few_new_ids_through_and_says_when_it_is_full() -> None:
    numbers, seen = np.random.default_rng(3), IdFilter()
    assert seen.fullest() is None
    seen.mark(np.unique(numbers.integers(LEAST, MOST, 16 * 4_096 - 3_000)))
    assert seen.fullest() is None
    others = np.unique(numbers.integers(LEAST, MOST, 20_000))
    assert seen.mark(others).mean() < 0.001
    assert seen.fullest() is not None
    assert seen.nbytes < 20 / 8 * 16 * 4_096
