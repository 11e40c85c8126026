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

__all__ = ["declared_times"]


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
    places = np.flatnonzero(columns.valid & (columns.has[0] != 0))
    times = columns.words[0, places] + source.delay_us
    if not len(places):
        return np.full(len(payloads), earlier or 0, dtype=np.int64)
    before = np.searchsorted(places, np.arange(len(payloads)), side="right") - 1
    first = times[0] if earlier is None else earlier
    return np.where(before < 0, first, times[before])
