"""When events became known, as their source declares it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.declare.schema import EventSchema
from homeostat.declare.sources import EventSource
from homeostat.ingest.event_columns import ColumnDecoder
from homeostat.ingest.payloads import Payloads

__all__ = ["believed_times", "declared_times", "or_before"]


def declared_times(
    source: EventSource, payloads: Sequence[bytes], earlier: Micros | None = None
) -> npt.NDArray[np.int64]:
    """Return when each payload was known by the source's declaration, int64 of shape (n,).

    One whose clock cannot be read takes the time of the one before it: the first ones `earlier`,
    or where there is nothing earlier that of the first that can be read.
    """
    clock = source.known_time or source.event_time
    field = source.schema.field(clock, f"event source {source.name!r}")
    columns = ColumnDecoder(EventSchema("clock", (field,))).decode(Payloads.of(payloads))
    read = columns.valid & (columns.has[0] != 0)
    return or_before(columns.words[0] + source.delay_us, read, 0, earlier)


def believed_times(
    known: npt.NDArray[np.int64], latest: Micros, ahead: Micros, earlier: Micros | None = None
) -> npt.NDArray[np.int64]:
    """Return known times of which none is after `latest`: nobody can know yet what is to come.

    A time at most `ahead` later counts as `latest`. One beyond says that a clock was wrong: it
    takes the time of the one before it, as where a clock cannot be read.

    >>> believed_times(np.array([3, 99, 5, 8]), latest=7, ahead=1).tolist()
    [3, 3, 5, 7]
    """
    if not (known > latest).any():
        return known
    return or_before(np.minimum(known, latest), known <= latest + ahead, latest, earlier)


def or_before(
    times: npt.NDArray[np.int64],
    good: npt.NDArray[np.bool_],
    otherwise: Micros,
    earlier: Micros | None,
) -> npt.NDArray[np.int64]:
    """Return the times that are good; the others take that of the one before them.

    The first ones take `earlier`, or the first good one, or `otherwise` where there is neither.
    """
    places = np.flatnonzero(good)
    if not len(places):
        return np.full(len(times), otherwise if earlier is None else earlier, dtype=np.int64)
    before = np.searchsorted(places, np.arange(len(times)), side="right") - 1
    first = times[places[0]] if earlier is None else earlier
    return np.where(before < 0, first, times[places[before]])
