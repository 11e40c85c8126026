"""The property tests bite: each planted fault is found by generated histories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from homeostat.aggregate import (
    answers,
    block,
    columns,
    decayed,
    distinct,
    kernel,
    operations,
    quantiles,
    recent,
    top,
    windows,
)
from homeostat.aggregate.answers import Answers
from homeostat.aggregate.block import Block
from homeostat.aggregate.exact import rounded
from homeostat.aggregate.expressions import to_polars
from homeostat.core import compiled
from homeostat.core.errors import HomeostatError
from homeostat.core.ids import event_tie
from homeostat.declare.aggregations import (
    Aggregation,
    count,
    first,
    last,
    maximum,
    mean,
    minimum,
    share,
    sum_,
    time_since_last,
    variance,
)
from homeostat.declare.expressions import col
from homeostat.declare.sources import Entity
from homeostat.declare.summaries import (
    decayed_sum,
    distinct_count,
    last_n,
    quantile,
    top_share,
    top_values,
    trend,
)
from homeostat.declare.views import FeatureView
from homeostat.features import (
    fold,
    latest,
    live_windows,
    log,
    lookups,
    offline,
    pages,
    read,
    record,
    state_rows,
    sweep,
    whole,
)
from homeostat.testing.executions import (
    differences,
    live_rows,
    oracle_rows,
    small_records,
    training_rows,
)
from homeostat.testing.generators import START, TICK, History, Question, histories, readings
from homeostat.testing.memory_store import MemoryStore

Execution = Callable[[History], Any]


def live(history: History) -> Any:
    return live_rows(history, MemoryStore())


SPANS = ("20s", "1m", "3m")
BIG, POSITIVE = col("units") >= 0, col("amount") > 0

EVERYTHING = tuple(
    made.named(f"x{number}").over(*spans, hop=hop) if spans else made.named(f"x{number}")
    for number, (made, spans, hop) in enumerate(
        (
            (count(), SPANS, "0s"), (count(), ("1m", "3m"), "17s"), (count(), (), "0s"),
            (sum_("small", BIG), SPANS, "7us"), (sum_("level"), (), "0s"),
            (mean("amount"), SPANS, "0s"), (mean("units"), (), "0s"),
            (variance("small"), ("3m",), "0s"), (minimum("amount"), SPANS, "0s"),
            (maximum("amount"), (), "0s"), (last("level"), SPANS, "0s"), (last("level"), (), "0s"),
            (first("units"), ("3m",), "10s"), (first("flag"), (), "0s"),
            (share(POSITIVE), SPANS, "0s"), (time_since_last(BIG), SPANS, "0s"),
            (last_n("level", 3), SPANS, "0s"), (last_n("amount", 2, POSITIVE), (), "0s"),
            (distinct_count("id", 2), SPANS, "0s"), (distinct_count("id", 3), (), "0s"),
            (distinct_count("place"), ("3m",), "0s"), (distinct_count("level", 2), (), "0s"),
            (quantile("amount", 0.5, 0.9), SPANS, "0s"), (quantile("units", 0.333333), (), "0s"),
            (top_share("amount", 1, 3), SPANS, "0s"), (top_share("level", 2, 2), (), "0s"),
            (top_values("units", 2, 3), SPANS, "0s"), (top_values("level", 2, 2), (), "0s"),
            (decayed_sum("small", "10s"), SPANS, "0s"), (decayed_sum("units", "10s"), (), "0s"),
            (decayed_sum("amount", "1d"), (), "0s"),
            (trend(mean("units")), ("1m",), "0s"), (trend(count(), "ratio"), ("1m",), "10s"),
        )
    )
)  # fmt: skip
"""Every kind of aggregation, so that few histories are enough to find what is wrong with one."""


@cache
def cases() -> list[tuple[History, Any]]:
    """Draw histories once, each with what the oracle says."""
    found = [
        (history, oracle_rows(history))
        for history in (large_sums(), beyond(), small_zeros(), busy())
    ]
    found += [(history, oracle_rows(history)) for history in tied_pairs()]

    @seed(20130101)
    @settings(
        max_examples=150, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(histories(EVERYTHING))
    def collect(history: History) -> None:
        if len(history.rows) > 5:
            kept = tuple(a for a in history.view.aggregations if a in EVERYTHING)
            known = replace(history, view=replace(history.view, aggregations=kept))
            found.append((known, oracle_rows(known)))
            # Nothing but latest values of a column without gaps has a path of its own.
            swept = [only_latest(known, own) for own in (True, False)]
            found.extend([(one, oracle_rows(one)) for one in swept])

    collect()
    return found


def only_latest(history: History, own: bool) -> History:
    """The same history, asked for nothing but latest values."""
    made = (last("level"), last("level").over(*SPANS, hop="7us"), time_since_last())
    return replace(history, view=replace(history.view, aggregations=made, exclude_own=own))


def large_sums() -> History:
    """Running sums that wrap, of windows that do not."""
    made = (sum_("amount").over("10s"), mean("amount").over("10s", "7us"))
    return one_place(made, [2.0**51 - n - 0.25 for n in range(20)])


def beyond() -> History:
    """Values and windows without an exact sum, and others that lie close together far from 0."""
    made = (
        sum_("amount").over("10s", "30s"), variance("amount").over("10s", "30s"), mean("amount"),
        trend(sum_("amount")).over("10s"), decayed_sum("amount", "10s").over("1m"),
    )  # fmt: skip
    near = [3e7 + step for step in (0.01, 0.02, 0.03)]
    return one_place(made, [1.0, 2.0**51, -(2.0**51), *near, 1e300, *near, *near])


def small_zeros() -> History:
    """Zeros of both signs."""
    made = (minimum("amount").over("10s"), last("amount"), sum_("amount").over("1m"))
    return one_place(made, [0.0 if n % 2 else -0.0 for n in range(8)])


def busy() -> History:
    """More rows than a record has room for, some of them late, with windows that begin anywhere."""
    spans = ("20s", "70s", "2m", "5m")
    made = (
        count().over(*spans), sum_("amount").over(*spans), minimum("amount").over(*spans),
        maximum("amount").over(*spans), first("amount").over(*spans), last("amount").over(*spans),
        time_since_last(BIG).over(*spans), last_n("amount", 2).over("5m"),
    )  # fmt: skip
    amounts = [float(n * 37 % 101 - 50) for n in range(60)]
    return one_place(made, amounts, [TICK * (n % 23) if n % 4 == 3 else 0 for n in range(60)])


def one_place(
    made: tuple[Aggregation, ...], amounts: list[float], lags: list[int] | None = None
) -> History:
    """Events of one entity, known ten seconds apart, with two questions after each."""
    names = [f"e{n * 389 % 997}" for n in range(len(amounts))]  # in no order
    rows = tuple(
        {
            "id": names[n], "at": START + n * TICK - lag, "place": "a", "site": 1,
            "amount": amount, "small": 1.0, "units": 1, "level": 1, "flag": True, "_offset": n,
            "_known_time": START + n * TICK, "_event_time": START + n * TICK - lag,
            "_id": names[n], "_tie": event_tie(names[n]), "_too_late": False,
        }
        for n, (amount, lag) in enumerate(zip(amounts, lags or [0] * len(amounts), strict=True))
    )  # fmt: skip
    cuts = tuple(range(1, len(rows) + 1))
    # Right after the newest event, and where the next one is not known yet.
    instants = [(n, START + (n - 1) * TICK + later) for n in cuts for later in (1, TICK)]
    questions = tuple(Question(n, ("a",), at, "none") for n, at in instants)
    return History(
        FeatureView("v", Entity("place", "place"), readings, made), rows, cuts, questions
    )


def tied_pairs() -> list[History]:
    """Nothing but latest values; two events tie, or all; those between are a little older."""
    made = (last("amount"), last("amount").over("20s", "1m"))
    found = []
    for n in range(8):
        tied = n + 1 + n % 3
        lags = [TICK * (m - n) + (m < tied) if n < m <= tied else 0 for m in range(11)]
        found.append(one_place(made, [float(m) for m in range(11)], lags))
    found.append(one_place(made, [float(m) for m in range(11)], [TICK * m for m in range(11)]))
    return found


def small_parts() -> Any:
    """Let frames be read in parts of a few events."""
    return mock.patch("homeostat.features.event_tables.PART", 4)


def is_found(execution: Execution) -> bool:
    """Whether an execution differs from the oracle on one of the histories."""
    for history, wanted in cases():
        try:
            found = execution(history)
        except (HomeostatError, ValueError):  # refused, or nonsense: the oracle never is
            return True
        if differences(found, wanted):
            return True
    return False


def later_start(at: Any, window: int, hop: int) -> Any:
    tail = at - window + 1
    return tail if hop == 0 else tail // hop * hop


def no_hop(at: Any, window: int, hop: int) -> Any:
    return at - window


def truncated_hop(at: Any, window: int, hop: int) -> Any:
    return at - window if hop == 0 else -((window - at) // hop) * hop


def known_at_once(table: Any, at: Any, offsets: Any) -> Any:
    return at + 1


def never_too_late(view: Any) -> pl.Expr:
    found = pl.col("_too_late").is_not_null()
    if view.condition is not None:
        found &= to_polars(view.condition).cast(pl.Boolean).fill_null(False)
    return found


def nothing_is_too_late(view: Any) -> pl.Expr:
    found = never_too_late(view)
    for key in view.entity.keys:
        found &= pl.col(key).is_not_null()
    return found


_block = Block.of


def seen_before_known(layout: Any, rows: Any, groups: int) -> Block:
    made = _block(layout, rows, groups)
    return replace(made, latest=made.soonest)


def ties_by_arrival(layout: Any, rows: Any, groups: int) -> Block:
    return _block(layout, replace(rows, ties=np.zeros_like(rows.times)), groups)


_prepare = fold.ViewFold.prepare


def folded_by_arrival(self: Any, events: pl.DataFrame) -> Any:
    return _prepare(self, events.with_columns(_tie=pl.lit(0, pl.Int64)))


def in_python(function: Any) -> Any:
    return function


def mutant(module: Any, right: str, wrong: str, name: str) -> Any:
    """Return a loop of a module, in Python, with one place in the source changed."""
    source = Path(module.__file__).read_text()
    assert source.count(right) == 1, f"{right!r} is there {source.count(right)} times"
    made: dict[str, Any] = {"__name__": module.__name__}
    with (
        mock.patch.object(compiled, "compiled", in_python),
        mock.patch.object(compiled, "compiled_for", return_value=in_python),
    ):
        exec(compile(source.replace(right, wrong), module.__file__, "exec"), made)
    return made[name]


_evict = pages.Pages.evict


def evicted_early(self: Any, writer: Any, key: bytes, words: Any) -> Any:
    with mock.patch.object(self._record, "reach", 0):
        return _evict(self, writer, key, words)


def running_floats(layout: Any, given: Any, n: int) -> Any:
    sums = columns.running(layout, given, n)
    return np.where(np.abs(sums) > 2**53, sums & -1024, sums)


def rounded_short(limbs: Any) -> Any:
    kept = limbs.copy()
    kept[:, 2:] = 0
    return rounded(kept)


_numbers: Any = columns.numbers


def always_present(column: Any, present: Any, place: str) -> Any:
    return _numbers(column.fill_null(0), None, place)


def negative_zeros(needed: Any, found: Any, n: int) -> Any:
    known = found is not None and found.dtype == np.float64
    return found if known else _signal(needed, found, n)


_signal = columns._signal


def no_late_runs(self: Any, block: Any, mixed: Any, end: Any) -> Any:
    return []


def against_both(read_: Any, now: Any, longer: Any) -> float:
    one = read_.operation.one
    return operations.compared_one(one(now, read_.lanes), one(longer, read_.lanes), read_.trend)


_compared = operations.compared


def turned(now: Any, before: Any, by: str) -> Any:
    return _compared(before, now, by)


_latest, _last_columns = recent.LastN._latest, recent.LastN.columns


def oldest_first(self: Any, times: Any, ties: Any, bits: Any) -> Any:
    return _latest(self, times, ties, bits).reshape(-1, 3)[::-1].reshape(-1)


def columns_oldest_first(self: Any, index: Any, slices: Any, at: Any) -> Any:
    return _last_columns(self, index, slices, at)[:, ::-1]


def one_code_less(self: Any, rows: Any) -> Any:
    return np.unique(rows.codes)[: self.k]


def counted_columns(self: Any, index: Any, slices: Any, at: Any) -> Any:
    return np.minimum(_distinct(self, index, slices, at), self.k)


_distinct = distinct.DistinctCount.columns


def ranks_down(self: Any, count: Any) -> Any:
    return np.stack([np.maximum((count * share).astype(np.int64), 1) for share in self.q])


_bins = quantiles.Quantiles._bins


def without_sign(self: Any, values: Any) -> Any:
    return np.abs(_bins(self, values))


def all_sampled(self: Any, index: Any, owner: Any, row: Any, queries: int) -> Any:
    return owner, row


_ranked = top._Top._ranked


def larger_first(self: Any, state: Any) -> Any:
    words, count, total = _ranked(self, state)
    order = np.lexsort((-words.view(np.float64), -count))
    return words[order], count[order], total


_WEIGHTS = decayed._weights()  # here, so that no fault is kept in their cache


def heavier() -> Any:
    return np.append(1.0, _WEIGHTS[:-1])


def started_anew(self: Any, words: Any, rows: Any) -> Any:
    sizes, states = whole.Whole.empty(self)
    header = words[: self.end].copy()
    header[list(self.places.values())] = sizes
    parts = [np.frombuffer(state, np.int64) for state in states]
    return _absorbed(self, np.concatenate([header, *parts, words[self.begin(words) :]]), rows)


_absorbed = whole.Whole.absorbed


def later_steps_win(self: Any, left: Any, right: Any) -> Any:
    kept = left.reshape(-1, 5)[~np.isin(left[::5], right[::5])]
    return decayed._added(np.concatenate([kept, right.reshape(-1, 5)]))


def loop(module: Any, name: str, right: str, wrong: str) -> tuple[Execution, Any, str, Any]:
    """Return a fault of a compiled loop."""
    return live, module, name, partial(mutant, module, right, wrong, name)


def swept(right: str, wrong: str) -> tuple[Execution, Any, str, Any]:
    """Return a fault of the sweep of latest values."""
    return training_rows, sweep, "swept", partial(mutant, sweep, right, wrong, "swept")


def unlearned(self: Any, last_part: int) -> Any:
    kept, ties = self._ties.copy(), _learn(self, last_part)
    self._ties[:] = kept
    return ties


_learn = latest._Sweep._learn


def unfinished(self: Any, begin: int) -> Any:
    end = _run(self, begin)
    if end == len(self._table.parts):
        self._latest[:, 1] = -1
    return end


_run = latest._Sweep._run


def any_window(layout: Any, window: int, at: Any, times: Any, rows: Any) -> Any:
    return rows


T, L, Sum, _by_part = training_rows, live, decayed.DecayedSum, lookups._by_part

_squares: Any = vars(columns)["squares"]


def no_range(*given: Any) -> None:
    """Leave nothing out."""


def rounded_squares(values: Any, *, is_whole: bool) -> Any:
    found = _squares(values, is_whole=is_whole)
    found[:, :3] = 0
    return found


FAULTS: dict[str, tuple[Execution, Any, str, Any]] = {
    "offline: sums beyond their range have a value": (T, Answers, "_leave_out", no_range),
    "live: sums beyond their range have a value": (L, read.ViewReader, "_leave_out", no_range),
    "live: squares are rounded": (L, columns, "squares", rounded_squares),
    "live: magnitudes are not added up": loop(
        state_rows, "folded", "here[5 + 2 * place] += weight >> 31", "pass"),
    "offline: an event on the boundary is left out": (T, offline, "window_start", later_start),
    "live: an event on the boundary is left out": (L, live_windows, "window_start", later_start),
    "offline: no hop": (T, offline, "window_start", no_hop),
    "live: no hop": (L, live_windows, "window_start", no_hop),
    "offline: the hop rounds up": (T, offline, "window_start", truncated_hop),
    "live: the hop rounds up": (L, live_windows, "window_start", truncated_hop),
    "offline: known at the instant itself": (T, offline, "_limits", known_at_once),
    "latest: known at the instant itself": swept(
        "limits[question] <= clock", "limits[question] < clock"),
    "latest: late events come last": swept(
        "time > best[entity, 0] or best[entity, 1] < 0", "time != best[entity, 0]"),
    "latest: ties are in the order of arrival": swept(
        "is_later = time > best[entity, 0]", "is_later = time >= best[entity, 0]"),
    "latest: ties are turned around": swept(
        "ties[event] >= best_ties[entity]", "ties[event] <= best_ties[entity]"),
    "latest: the tie of the latest is forgotten": swept("best_ties[entity] = ties[event]", "pass"),
    "latest: ties before the first known one are not learned": (
        T, latest._Sweep, "_learn", unlearned),
    "latest: rows count from the beginning of a part": swept("first + event", "event"),
    "latest: the event that ties first is passed over": swept(
        "stopped = event", "stopped = event + 1"),
    "latest: others' events count": swept("if entity == 0:", "if entity < 0:"),
    "latest: what is asked after the last event is not answered": (
        T, latest._Sweep, "_run", unfinished),
    "latest: too late events count": (T, log, "wanted", never_too_late),
    "latest: a window holds everything": (T, latest, "_inside", any_window),
    "latest: an event on the boundary is left out": (T, latest, "window_start", later_start),
    "latest: values of one row too early": (
        T, lookups, "_by_part", lambda table, rows: _by_part(table, np.maximum(rows, 1) - 1)),
    "offline: late events are seen before they are known": (T, Block, "of", seen_before_known),
    "offline: late events are forgotten": (T, windows.Queries, "_runs", no_late_runs),
    "live: late events come last": loop(
        state_rows, "folded", "if there > 0 and _is_before(", "if there < 0 and _is_before("),
    "live: late events do not go to their pages": loop(
        state_rows, "folded", "if (is_split or here[2]) and _", "if is_split and _"),
    "live: late events do not go to their older rows": loop(
        state_rows, "folded", "if (is_split or here[2]) and _", "if here[2] and _"),
    "live: late events are added to no later sums": loop(
        state_rows, "folded", "rows[place, 2 + lane] += total[lane]", "pass"),
    "live: pages are left out of sums": loop(
        state_rows, "looked_up", "found[lane] += older[lane]", "pass"),
    "live: a window that begins in a page begins late": loop(
        state_rows, "looked_up", "first = _first_from(part, 0, 0, n, start)",
        "first = _first_from(part, 0, 0, n, start + 1)"),
    "live: what is before a window in its page counts": loop(
        state_rows, "looked_up", "found[lane] -= part[first - 1, 2 + lane]", "pass"),
    "live: the greatest value of a page is its last": loop(
        state_rows, "described", "or value > picks[at + 1 + _GREATEST_OF]", "or True"),
    "live: the latest value is that of the oldest page": loop(
        state_rows, "looked_up", "if np.isnan(picks[signal, _LATEST_OF]):", "if True:"),
    "offline: too late events count": (T, log, "wanted", never_too_late),
    "live: too late events count": (L, fold, "usable", nothing_is_too_late),
    "offline: the own event counts": (
        T, offline, "event_ties", lambda ids: np.zeros(len(ids), np.int64)),
    "live: the own event counts": (L, read, "event_tie", lambda name: 0),
    "latest: the own event counts": (
        T, offline, "_rows_of_own", lambda table, rows, own: np.empty(0, np.int64)),
    "offline: ties are in the order of arrival": (T, Block, "of", ties_by_arrival),
    "live: ties are in the order of arrival": (L, fold.ViewFold, "prepare", folded_by_arrival),
    "live: rows are evicted too early": (L, record, "SLACK", -(10**12)),
    "live: pages are dropped too early": (L, pages.Pages, "evict", evicted_early),
    "live: evicted sums are forgotten": loop(
        state_rows, "folded", "rows[0, word] = rows[low - 1, word]", "rows[0, word] = 0"),
    "live: sums that leave int64 stop there": loop(
        state_rows, "folded", "rows[place, 2 + lane] = rows[there, 2 + lane] + total[lane]",
        "rows[place, 2 + lane] = min(int(rows[there, 2 + lane]) + int(total[lane]), 2**63 - 1)"),
    "offline: running sums are floats": (T, block, "running", running_floats),
    "offline: the last limb is lost": (T, operations, "rounded", rounded_short),
    "live: the last limb is lost": loop(
        kernel, "finalized", "_nearest(lanes[b], lanes[b + 1], lanes[b + 2])",
        "_nearest(lanes[b], lanes[b + 1], 0)"),
    "missing values are zero": (L, columns, "numbers", always_present),
    "negative zero stays": (L, columns, "_signal", negative_zeros),
    "offline: a trend is turned around": (T, answers, "compared", turned),
    "live: the window before contains this one": (L, read, "_trend", against_both),
    "live: the latest of all is the last to arrive": loop(
        state_rows, "folded", "else not is_before", "else True"),
    "live: the second best of all is forgotten": loop(
        state_rows, "folded", "here[word + 3] = here[word]", "pass"),
    "live: the own event is selected from all time": loop(
        state_rows, "looked_up", "if tie != 0 and words[at] == time", "if tie != 0 and False"),
    "live: the own event counts in all time": loop(
        state_rows, "looked_up", "found[lane] += rows[mine - 1, 2 + lane] - rows[mine, 2 + lane]",
        "pass"),
    "offline: the own event counts in all time": (
        T, windows.Queries, "only_own_since", lambda self, block, since: replace(self, own=None)),
    "live: the last values come oldest first": (L, recent.LastN, "_latest", oldest_first),
    "offline: the last values come oldest first": (
        T, recent.LastN, "columns", columns_oldest_first),
    "live: distinct values beyond k are not seen": (
        L, distinct.DistinctCount, "state", one_code_less),
    "offline: distinct values beyond k are not seen": (
        T, distinct.DistinctCount, "columns", counted_columns),
    "the rank of a quantile is rounded down": (T, quantiles.Quantiles, "_ranks", ranks_down),
    "the bins of a quantile have no sign": (L, quantiles.Quantiles, "_bins", without_sign),
    "offline: too many values are not sampled": (T, top._Top, "_sampled", all_sampled),
    "live: of equally frequent values the larger is first": (L, top._Top, "_ranked", larger_first),
    "weights lag one step behind": (T, decayed, "_weights", heavier),
    "events fade a step too soon": (L, decayed, "_AGES", 1023),
    "live: a step forgets what it was": (L, Sum, "merge", later_steps_win),
    "live: the whole history begins anew": (L, whole.Whole, "absorbed", started_anew),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    execution, owner, name, broken = FAULTS[fault]
    cases()
    if isinstance(broken, partial):
        broken = broken()
    patch: Any = mock.patch.object(owner, name, broken)
    with small_records(2), small_parts(), patch, np.errstate(over="ignore"):
        assert is_found(execution)


@pytest.mark.parametrize("execution", [training_rows, live])
def test_without_a_fault_nothing_is_found(execution: Execution) -> None:
    with small_records(2), small_parts():
        assert not is_found(execution)
