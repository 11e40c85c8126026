"""The loops over the rows of records: events folded into them, and windows read from them.

Compiled (`core/compiled.py`); everything is int64 words as `record.py` describes. Loops call
no function of another file, because what is compiled is kept until this file changes.
"""

from __future__ import annotations

import numpy as np
from numba import types

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.core.compiled import (
    INT_OUT,
    INTS,
    compiled,
    compiled_for,
    given,
    written,
)

__all__ = [
    "EVICTABLE",
    "FULL",
    "GONE",
    "HEAVY",
    "LATE",
    "LOADED",
    "described",
    "folded",
    "looked_up",
    "pages_wanted",
]

LATE, EVICTABLE, FULL = 1, 2, 4
"""What is left to do for a folded record: events for its pages, old pages, too many rows."""

LOADED, GONE, HEAVY = 1, 2, 3
"""What is wrong with a record that was read: pages have to be loaded, a window reaches back to
evicted events, or some sum over all time left its range, so that each has to be looked at."""

_BEFORE = -(2**63)
_LOWER = 2**31 - 1
_WEIGHT_LIMIT = 2**31
"""Of the upper bits of a magnitude: 2^62 in all."""

_LEAST_OF, _GREATEST_OF, _EARLIEST_OF, _LATEST_OF = 0, 1, 2, 3
_TABLE = given("int64", 2)


@compiled
def _is_before(time: int, tie: int, other_time: int, other_tie: int) -> bool:
    return time < other_time or (time == other_time and tie < other_tie)


@compiled
def _sort(table: Ints, rows: Ints) -> None:
    """Sort row numbers by (time, tie), stable; usually they are in order."""
    n = len(rows)
    ordered = True
    for i in range(1, n):
        a, b = rows[i - 1], rows[i]
        if _is_before(table[b, 0], table[b, 1], table[a, 0], table[a, 1]):
            ordered = False
            break
    if ordered:
        return
    here, there, run = rows.copy(), np.empty(n, np.int64), 1
    while run < n:
        for low in range(0, n, 2 * run):
            middle, high = min(low + run, n), min(low + 2 * run, n)
            left, right = low, middle
            for place in range(low, high):
                take_right = left >= middle
                if not take_right and right < high:
                    a, b = here[left], here[right]
                    take_right = _is_before(table[b, 0], table[b, 1], table[a, 0], table[a, 1])
                if take_right:
                    there[place] = here[right]
                    right += 1
                else:
                    there[place] = here[left]
                    left += 1
        here, there = there, here
        run *= 2
    rows[:] = here


@compiled
def _directory(words: Ints, sizes_at: int, size: int) -> int:
    """Return where the directory of a record begins: behind the whole-history states."""
    begin = size
    for place in range(sizes_at, size):
        begin += words[place]
    return begin


@compiled
def _is_selected(
    select: int, value: float, time: int, tie: int, other: float, other_time: int, other_tie: int
) -> bool:  # fmt: skip
    """Whether an event is selected rather than another, whose value is missing if there is none."""
    if np.isnan(other):
        return True
    if select == _LEAST_OF:
        return value < other
    if select == _GREATEST_OF:
        return value > other
    is_before = _is_before(time, tie, other_time, other_tie)
    return is_before if select == _EARLIEST_OF else not is_before


@compiled
def _select(here: Ints, numbers: Floats, selected: Ints, table: Ints, row: int, lanes: int) -> None:
    """Let one event into the selections of the whole history; `numbers` are `here` as floats.

    Of each, the two best are kept: the second is what is selected without the first.
    """
    values = table.view(np.float64)
    time, tie = table[row, 0], table[row, 1]
    for number in range(len(selected)):
        at, select = selected[number, 0], selected[number, 1]
        value = values[row, 2 + lanes + selected[number, 2]]
        if np.isnan(value):
            continue
        if _is_selected(select, value, time, tie, numbers[at + 2], here[at], here[at + 1]):
            for word in range(at, at + 3):
                here[word + 3] = here[word]
        elif _is_selected(select, value, time, tie, numbers[at + 5], here[at + 3], here[at + 4]):
            at += 3
        else:
            continue
        here[at], here[at + 1], numbers[at + 2] = time, tie, value


@compiled
def _first_from(rows: Ints, column: int, low: int, high: int, start: int) -> int:
    """Return the first of the rows `[low, high)` whose column has `start` or a later instant."""
    while low < high:
        middle = (low + high) // 2
        if rows[middle, column] < start:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _evict(rows: Ints, count: int, horizon: int, header: Ints, fewest: int) -> int:
    """Cut rows that no later read can reach off the front, once they are a quarter of all.

    The newest of them becomes the sentinel. Returns how many rows are left.
    """
    if count < fewest or rows[count // 4, 0] >= horizon:
        return count
    low = _first_from(rows, 0, count // 4 + 1, count, horizon)
    header[0] = max(header[0], rows[low - 1, 0])
    width = rows.shape[1]
    for word in range(2, width):
        rows[0, word] = rows[low - 1, word]
    for place in range(low, count):
        for word in range(width):
            rows[place - low + 1, word] = rows[place, word]
    return count - low + 1


@compiled
def _merge(rows: Ints, count: int, table: Ints, fresh: Ints, total: Ints) -> None:
    """Merge events, sorted, into the first `count` of `rows`; `total` are the sums of their lanes.

    From the back, each place gets the later of the last old and the last new row.
    """
    width, lanes = rows.shape[1], len(total)
    there, new = count - 1, len(fresh) - 1
    while new >= 0:
        number, place = fresh[new], there + new + 1
        if there > 0 and _is_before(
            table[number, 0], table[number, 1], rows[there, 0], rows[there, 1]
        ):
            for word in range(width):
                rows[place, word] = rows[there, word]
            for lane in range(lanes):
                rows[place, 2 + lane] += total[lane]
            there -= 1
        else:
            for word in range(width):
                rows[place, word] = table[number, word]
            for lane in range(lanes):
                rows[place, 2 + lane] = rows[there, 2 + lane] + total[lane]
                total[lane] -= table[number, 2 + lane]
            new -= 1


@compiled_for(
    INT_OUT, INTS, INTS, _TABLE, _TABLE, INTS, INTS, INTS, INTS, INTS, INT_OUT, INT_OUT, INT_OUT
)
def folded(
    shape: Ints, heavy: Ints, selected: Ints, table: Ints, known: Ints,
    order: Ints, cuts: Ints, old: Ints, ends: Ints, out: Ints, out_ends: Ints, left: Ints,
) -> Ints:  # fmt: skip
    """Fold events into the records of their entities; return the rows that belong in pages.

    Entity i has the events `order[cuts[i]:cuts[i + 1]]`, in the order of the log, of `table`
    (event time, tie, lanes, bits of values) and `known` (their known times), and the record
    `old[ends[i]:ends[i + 1]]`. Its new record is written to `out[out_ends[i]:out_ends[i + 1]]`,
    and `left[i]` is told what remains to be done. A record without its older rows takes events that
    come after them; if one does not, its `left` says `LATE`, and it must be folded with them.
    """
    width, lanes, size, sizes_at, entry = shape[0], shape[1], shape[3], shape[4], shape[5]
    reach, fewest, page = shape[6], shape[7], shape[8]
    late, lates = np.empty(len(order), np.int64), 0
    total = np.empty(lanes, np.int64)
    for entity in range(len(cuts) - 1):
        words, low = ends[entity + 1] - ends[entity], ends[entity]
        here = out[out_ends[entity] :]
        for word in range(words):
            here[word] = old[low + word]
        numbers = here.view(np.float64)
        pages_at = _directory(here, sizes_at, size)
        is_split = here[4] != 0
        begin = pages_at if is_split else pages_at + here[2] * entry
        count = (words - begin) // width
        mine = order[cuts[entity] : cuts[entity + 1]].copy()
        here[1] = max(here[1], known[mine[-1]])
        _sort(table, mine)
        total[:] = 0
        todo, fresh = 0, 0
        # Where the instant and the tie of the newest row that is elsewhere are said.
        newest = begin if is_split else begin - entry + 3
        for number in mine:
            for place in range(len(heavy)):
                weight = abs(table[number, 2 + heavy[place]])
                here[5 + 2 * place] += weight >> 31
                here[6 + 2 * place] += weight & _LOWER
            _select(here, numbers, selected, table, number, lanes)
            if (is_split or here[2]) and _is_before(
                table[number, 0], table[number, 1], here[newest], here[newest + 1]
            ):
                late[lates] = number
                lates += 1
                todo |= LATE
            else:
                mine[fresh] = number
                fresh += 1
                for lane in range(lanes):
                    total[lane] += table[number, 2 + lane]
        rows = here[begin : begin + (count + fresh) * width].reshape(count + fresh, width)
        _merge(rows, count, table, mine[:fresh], total)
        count += fresh
        horizon = here[1] - reach
        if not is_split:
            if here[2] == 0:
                count = _evict(rows, count, horizon, here, fewest)
            elif here[pages_at + 3] < horizon:
                todo |= EVICTABLE
            if count - 1 > 2 * page:
                todo |= FULL
        left[entity] = todo
        out_ends[entity + 1] = out_ends[entity] + begin + count * width
    return late[:lates]


@compiled_for(types.void, types.int64, _TABLE, INT_OUT)
def described(lanes: int, rows: Ints, entry: Ints) -> None:
    """Write what the directory says of a page, but for its number, into `entry`.

    `rows` (n, width) have running sums that begin with the page.
    """
    n, values, picks = len(rows), rows.view(np.float64), entry.view(np.float64)
    entry[1], entry[2], entry[3], entry[4] = n, rows[0, 0], rows[n - 1, 0], rows[n - 1, 1]
    for lane in range(lanes):
        entry[5 + lane] = rows[n - 1, 2 + lane]
    for signal in range(rows.shape[1] - lanes - 2):
        at = 5 + lanes + 6 * signal
        for place in range(at, at + 6):
            entry[place] = 0
        for row in range(n):
            value = values[row, 2 + lanes + signal]
            if np.isnan(value):
                continue
            if entry[at] == 0 or value < picks[at + 1 + _LEAST_OF]:
                picks[at + 1 + _LEAST_OF] = value
            if entry[at] == 0 or value > picks[at + 1 + _GREATEST_OF]:
                picks[at + 1 + _GREATEST_OF] = value
            if entry[at] == 0:
                picks[at + 1 + _EARLIEST_OF] = value
            picks[at + 1 + _LATEST_OF] = value
            entry[at + 5] = rows[row, 0]
            entry[at] += 1


@compiled
def _scan(
    rows: Ints, begin: int, end: int, lanes: int, mine: int, picks: Floats, times: Ints
) -> None:
    """Let the rows `[begin, end)`, which are before all that were seen, into the selections."""
    values = rows.view(np.float64)
    for signal in range(len(times)):
        column = 2 + lanes + signal
        least, greatest = picks[signal, _LEAST_OF], picks[signal, _GREATEST_OF]
        earliest, latest = picks[signal, _EARLIEST_OF], picks[signal, _LATEST_OF]
        for row in range(end - 1, begin - 1, -1):
            value = values[row, column]
            if np.isnan(value) or row == mine:
                continue
            if np.isnan(latest):
                least = greatest = latest = value
                times[signal] = rows[row, 0]
            if value < least:
                least = value
            if value > greatest:
                greatest = value
            earliest = value
        picks[signal, _LEAST_OF], picks[signal, _GREATEST_OF] = least, greatest
        picks[signal, _EARLIEST_OF], picks[signal, _LATEST_OF] = earliest, latest


@compiled
def _scan_pages(
    entries: Ints, page: int, start: int, lanes: int, older: Ints, picks: Floats, times: Ints
) -> int:  # fmt: skip
    """Let the pages before `page` that are whole in a window into the sums and selections.

    Returns the first of them.
    """
    begin = page
    while begin > 0 and entries[begin - 1, 2] >= start:
        begin -= 1
    for lane in range(lanes):
        total = 0
        for number in range(begin, page):
            total += entries[number, 5 + lane]
        older[lane] += total
    values = entries.view(np.float64)
    for signal in range(len(times)):
        at = 5 + lanes + 6 * signal
        least, greatest = picks[signal, _LEAST_OF], picks[signal, _GREATEST_OF]
        for number in range(page - 1, begin - 1, -1):
            if entries[number, at] == 0:
                continue
            if np.isnan(picks[signal, _LATEST_OF]):
                picks[signal, _LATEST_OF] = values[number, at + 1 + _LATEST_OF]
                times[signal] = entries[number, at + 5]
                least, greatest = values[number, at + 1], values[number, at + 2]
            if values[number, at + 1] < least:
                least = values[number, at + 1]
            if values[number, at + 2] > greatest:
                greatest = values[number, at + 2]
            picks[signal, _EARLIEST_OF] = values[number, at + 1 + _EARLIEST_OF]
        picks[signal, _LEAST_OF], picks[signal, _GREATEST_OF] = least, greatest
    return begin


@compiled_for(INT_OUT, INTS, INTS, INTS)
def pages_wanted(shape: Ints, starts: Ints, words: Ints) -> Ints:
    """Return which pages of a record, from the oldest, have the beginnings of windows inside."""
    size, sizes_at, entry = shape[3], shape[4], shape[5]
    directory = _directory(words, sizes_at, size)
    count = words[2]
    entries = words[directory : directory + count * entry].reshape(count, entry)
    wanted = np.zeros(count, np.bool_)
    for start in starts:
        low = _first_from(entries, 3, 0, count, start)
        if start != _BEFORE and low < count and entries[low, 2] < start:
            wanted[low] = True
    return np.flatnonzero(wanted)


@compiled
def _read_part(part: Ints, start: int, found: Ints, pick: Floats, time: Ints) -> None:
    """Read the end of a page, from an instant on."""
    n, lanes = len(part), len(found)
    first = _first_from(part, 0, 0, n, start)
    _scan(part, first, n, lanes, -1, pick, time)
    for lane in range(lanes):
        found[lane] += part[n - 1, 2 + lane]
        if first > 0:
            found[lane] -= part[first - 1, 2 + lane]


@compiled
def _read_kept(
    words: Ints, selected: Ints, time: int, tie: int, picks: Floats, times: Ints
) -> None:
    """Read the selections of the whole history from a header, without one event (tie 0: all)."""
    numbers = words.view(np.float64)
    for kept in range(len(selected)):
        at, select, signal = selected[kept, 0], selected[kept, 1], selected[kept, 2]
        if tie != 0 and words[at] == time and words[at + 1] == tie:
            at += 3
        picks[signal, select] = numbers[at + 2]
        if select == _LATEST_OF:
            times[signal] = words[at]


@compiled
def _from_latest(starts: Ints) -> Ints:
    """Return the order of a few windows, from the one that begins latest."""
    order = np.arange(len(starts))
    for place in range(1, len(order)):
        window = order[place]
        while place > 0 and starts[order[place - 1]] < starts[window]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = window
    return order


@compiled_for(
    types.void,
    INTS,
    _TABLE,
    INTS,
    INTS,
    INTS,
    INTS,
    types.int64,
    INTS,
    INTS,
    written("int64", 3),
    written("float64", 4),
    written("int64", 3),
    INT_OUT,
)
def looked_up(
    shape: Ints, selected: Ints, starts: Ints, records: Ints, ends: Ints, own: Ints,
    since: int, pages: Ints, page_at: Ints, sums: Ints, picks: Floats, times: Ints, states: Ints,
) -> None:  # fmt: skip
    """Read the windows of records: their sums, and the selected values of their signals.

    Record i is `records[ends[i]:ends[i + 1]]`, empty for an entity without one; `own[i]` is the tie
    of the request's own event, 0 for none; out of the whole history it is left if it happened at
    `since` or later. A window begins at its `starts`, `BEFORE` means the
    whole history. `pages[page_at[p]:]` are the rows of page p of the only record, for all that are
    wanted; without any, records that want pages are only told so.

    Writes `sums` (records, windows, lanes), `picks` (records, windows, signals, selections), the
    instants of the latest values `times` (records, windows, signals), and `states`: 0 if all is
    well, else `LOADED`, `GONE` or `HEAVY`.
    """
    width, lanes, signals, size, sizes_at, entry, heavy = (
        shape[0], shape[1], shape[2], shape[3], shape[4], shape[5], shape[9],
    )  # fmt: skip
    order = _from_latest(starts)
    older = np.empty(lanes, np.int64)
    pick, time = np.empty((signals, 4)), np.empty(signals, np.int64)
    for number in range(len(ends) - 1):
        states[number] = 0
        words = records[ends[number] : ends[number + 1]]
        if len(words) == 0:
            sums[number, :, :], picks[number, :, :, :] = 0, np.nan
            continue
        directory, count_of_pages = _directory(words, sizes_at, size), words[2]
        begin = directory + count_of_pages * entry
        count = (len(words) - begin) // width
        rows = words[begin : begin + count * width].reshape(count, width)
        entries = words[directory:begin].reshape(count_of_pages, entry)
        mine = -1
        if own[number] != 0:
            for row in range(1, count):
                if rows[row, 1] == own[number]:
                    mine = row
            if mine < 0 and count_of_pages > 0:  # it may be in one of them
                states[number] = LOADED
        cursor, page = count, count_of_pages
        pick[:], older[:] = np.nan, 0
        for window in order:
            start, found = starts[window], sums[number, window]
            if start == _BEFORE:
                is_out = mine > 0 and rows[mine, 0] >= since
                for lane in range(lanes):
                    found[lane] = rows[count - 1, 2 + lane]
                    if is_out:
                        found[lane] += rows[mine - 1, 2 + lane] - rows[mine, 2 + lane]
                _read_kept(
                    words, selected, rows[mine, 0], own[number] if is_out else 0,
                    picks[number, window], times[number, window],
                )  # fmt: skip
                continue
            if words[0] >= start:
                states[number] = GONE
                break
            first = _first_from(rows, 0, 1, cursor, start)
            _scan(rows, first, cursor, lanes, mine, pick, time)
            cursor = first
            for lane in range(2, 2 + lanes):
                found[lane - 2] = rows[count - 1, lane] - rows[first - 1, lane]
                if mine >= first:
                    found[lane - 2] += rows[mine - 1, lane] - rows[mine, lane]
            if first == 1 and count_of_pages > 0:
                page = _scan_pages(entries, page, start, lanes, older, pick, time)
                for lane in range(lanes):
                    found[lane] += older[lane]
                if page > 0 and entries[page - 1, 3] >= start:
                    if len(page_at) == 0:
                        states[number] = LOADED
                        continue
                    n, at = entries[page - 1, 1], page_at[page - 1]
                    part = pages[at : at + n * width].reshape(n, width)
                    _read_part(part, start, found, pick, time)
            for signal in range(signals):
                times[number, window, signal] = time[signal]
                for select in range(4):
                    picks[number, window, signal, select] = pick[signal, select]
        for place in range(5, 5 + 2 * heavy, 2):
            if states[number] == 0 and words[place] + (words[place + 1] >> 31) >= _WEIGHT_LIMIT:
                states[number] = HEAVY
