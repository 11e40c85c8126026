"""The loops of latest values: events and questions, each in the order of the log, met in one pass.

Compiled (`core/compiled.py`). Loops call no function of another file, because what is compiled
is kept until this file changes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import types

from homeostat.aggregate.arrays import Floats, Ints
from homeostat.core.compiled import INT_OUT, INTS, compiled_for, given, pair, written

__all__ = ["by_part", "fetched", "swept"]

Codes = npt.NDArray[np.uint32]

_CODES = given("uint32", 1)


@compiled_for(
    types.int64,
    types.Tuple((_CODES, INTS, INTS, INTS)),  # type: ignore[no-untyped-call]
    types.int64,
    pair(INTS, _CODES),
    written("int64", 1),
    pair(written("int64", 2), INT_OUT),
    pair(INT_OUT, INT_OUT),
)
def swept(
    events: tuple[Codes, Ints, Ints, Ints],
    begin: int,
    questions: tuple[Ints, Codes],
    counts: Ints,
    latest: tuple[Ints, Ints],
    found: tuple[Ints, Ints],
) -> int:
    """Let events into the states of their entities, and answer the questions that look before.

    `events` are entities (0: nobody's), clocks, event times, and ties if they are given; those
    from `begin` on are met. `questions` are, by the clock they look at, its limit and whose they
    are. `counts` are the number of the first event in the log, and how many questions have their
    answers in `found`: the number of the latest event, negative for none, and its time, unless
    nobody wants to know the times. `latest` are, of each entity so far, (time, number) and tie.

    Returns the first event that was not met, because it ties with the latest of its entity and
    ties are not given; or -1.
    """
    entities, clocks, times, ties = events
    limits, whose = questions
    best, best_ties = latest
    rows, times_found = found
    wants_times = len(times_found) > 0
    question, first, has_ties = counts[1], counts[0], len(ties) > 0
    stopped = -1
    for event in range(begin, len(entities)):
        entity = entities[event]
        if entity == 0:
            continue
        clock, time = clocks[event], times[event]
        while question < len(limits) and limits[question] <= clock:
            rows[question] = best[whose[question], 1]
            if wants_times:
                times_found[question] = best[whose[question], 0]
            question += 1
        is_later = time > best[entity, 0] or best[entity, 1] < 0
        if time == best[entity, 0] and not is_later:
            if not has_ties:
                stopped = event
                break
            is_later = ties[event] >= best_ties[entity]
        if is_later:
            best[entity, 0], best[entity, 1] = time, first + event
            if has_ties:
                best_ties[entity] = ties[event]
    counts[1] = question
    return stopped


@compiled_for(types.int64, given("float64", 1), INTS, INTS, written("float64", 2), types.int64)
def fetched(values: Floats, rows: Ints, places: Ints, found: Floats, column: int) -> int:
    """Write the values of some rows to their places in one column; negative zero becomes zero.

    Returns the first of the rows whose value is not a finite number, or -1.
    """
    for number in range(len(rows)):
        value = values[rows[number]]
        if not np.isfinite(value):
            return int(rows[number])
        found[places[number], column] = value + 0.0
    return -1


@compiled_for(pair(INT_OUT, pair(INT_OUT, INT_OUT)), INTS, INTS, INTS, types.int64)
def by_part(rows: Ints, first: Ints, guesses: Ints, shift: int) -> tuple[Ints, tuple[Ints, Ints]]:
    """Return where the rows of each part begin, and, part by part, their places and the rows
    themselves, counted from the beginning of the part; negative rows are left out.

    `first` has the first row of each part, and the end of the last; `guesses` the part of the
    first of every 2^shift rows.
    """
    cuts = np.zeros(len(first), np.int64)
    for place in range(len(rows)):
        if rows[place] >= 0:
            part = guesses[rows[place] >> shift]
            while rows[place] >= first[part + 1]:
                part += 1
            cuts[part + 1] += 1
    for part in range(len(first) - 1):
        cuts[part + 1] += cuts[part]
    free = cuts.copy()
    places, near = np.empty(cuts[-1], np.int64), np.empty(cuts[-1], np.int64)
    for place in range(len(rows)):
        if rows[place] >= 0:
            part = guesses[rows[place] >> shift]
            while rows[place] >= first[part + 1]:
                part += 1
            places[free[part]], near[free[part]] = place, rows[place] - first[part]
            free[part] += 1
    return cuts, (places, near)
