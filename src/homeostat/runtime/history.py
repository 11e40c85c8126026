"""Brings history into the log; an import that was cut off goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable

from homeostat.core.durations import Micros
from homeostat.declare.sources import EventSource
from homeostat.ingest.files import payloads_of
from homeostat.ingest.log import EventLog

__all__ = ["import_history"]


def import_history(
    log: EventLog,
    source: EventSource,
    data: object,
    *,
    known_time: Micros | str | None = None,
    progress: Callable[[int], None] = lambda records: None,
) -> int:
    """Append the records of `data` that an earlier, unfinished import did not; return how many.

    The source's log must hold nothing but a beginning of the same data: records are told apart by
    their place alone.

    Args:
        log: the event log.
        source: whose events they are.
        data: a path or frame, as `homeostat.ingest.files.payloads_of` takes.
        known_time: one instant, or the column that says when each row became known.
        progress: told the number of records appended, after each chunk.
    """
    done = log.end(source.name).next_offset
    place = appended = 0
    for known, payloads in payloads_of(source, data, known_time):
        skip = min(max(done - place, 0), len(payloads))
        place += len(payloads)
        if skip < len(payloads):
            log.append(source.name, known[skip:], payloads[skip:])
            appended += len(payloads) - skip
            progress(len(payloads) - skip)
    return appended
