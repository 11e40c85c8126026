"""What is pushed: a body is cut into events, each accepted or turned away with its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from homeostat.core.clock import to_micros
from homeostat.core.durations import Micros, format_duration
from homeostat.core.errors import HomeostatError
from homeostat.declare.sources import EventSource
from homeostat.ingest.decode import PayloadDecoder
from homeostat.ingest.lines import BOM, line_break

__all__ = ["BodyMalformed", "Door", "Judged", "Rejected", "cut", "is_ahead"]

Ints: TypeAlias = int | npt.NDArray[np.int64]

_EVENT = msgspec.json.Decoder(msgspec.Raw)
_EVENTS = msgspec.json.Decoder(list[msgspec.Raw])
_MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|\[+|\{+|\]+|\}+|,', re.DOTALL)
_BLANK = b" \t\r\n"


class BodyMalformed(HomeostatError, ValueError):
    """A body that cannot be cut into events, or that holds none."""

    def __init__(self, source: str, found: str) -> None:
        self.found = found
        super().__init__(
            f"events of {source!r}: {found}; allowed: one object, a list of objects, or one object "
            "per line; send JSON, and application/x-ndjson to have each line judged by itself."
        )


def cut(source: str, body: bytes, *, by_lines: bool = False) -> list[bytes]:
    r"""Return the events of a body as they came; raise `BodyMalformed` where there are none.

    A byte order mark at the beginning is no part of it. By lines (which end with a line feed, or
    all with a return alone), every line that is not blank is an event, whatever is in it. Otherwise
    the body is JSON: one value, a list of values, or values that follow each other. A value of a
    list that is no JSON, or nested too deeply, is an event of its own, which nothing can read.

    >>> cut("taps", b'[{"a": 1}, 2]'), cut("taps", b'{"a": \n{"a": 2}\n\n', by_lines=True)
    ([b'{"a": 1}', b'2'], [b'{"a":', b'{"a": 2}'])
    """
    body = body.removeprefix(BOM)
    if by_lines:
        events = [line for part in body.split(line_break(body)) if (line := part.strip(_BLANK))]
        found = "nothing"
    else:
        try:
            if body.lstrip()[:1] == b"[":
                events, found = _list(body), "an empty list"
            else:
                events, found = [bytes(event) for event in _EVENT.decode_lines(body)], "nothing"
        except (msgspec.DecodeError, UnicodeDecodeError) as malformed:
            raise BodyMalformed(source, str(malformed)) from malformed
        except RecursionError as deep:
            raise BodyMalformed(source, "the JSON is nested too deeply") from deep
    if not events:
        raise BodyMalformed(source, found)
    return events


def _list(body: bytes) -> list[bytes]:
    """Return the values of a JSON list; raise what decoding raises if its end is not its own."""
    try:
        return [bytes(event) for event in _EVENTS.decode(body)]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        events = _cut_list(body)
        if events is None:
            raise
        return events


def _cut_list(body: bytes) -> list[bytes] | None:
    """Return the texts between the commas of a list, None where brackets or quotes do not match."""
    events: list[bytes] = []
    depth, begin, end = 0, 0, -1
    for token in _MARKS.finditer(body):
        mark, at = token[0], token.start()
        if end >= 0 or mark == b'"':
            return None  # something after the list, or a text that does not end
        if mark[:1] in b"[{":
            if depth == 0:
                begin = at + 1
            depth += len(mark)
        elif mark[:1] in b"]}":
            depth -= len(mark)
            if depth == 0:
                end = token.end() - 1
            elif depth < 0:
                return None
        if (mark == b"," and depth == 1) or end >= 0:
            event = body[begin : at if mark == b"," else end].strip()
            if not event:
                return None
            events.append(event)
            begin = token.end()
    return events if end >= 0 and not body[end + 1 :].strip() else None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An event that was turned away: its place in the body from 0, and why. It quotes no value."""

    index: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The events of a body: those that can be read, as they came, and those that cannot."""

    accepted: list[bytes]
    rejected: list[Rejected]


def is_ahead(source: EventSource, event_times: Ints, known: Ints) -> Any:
    """Return whether events are further ahead of their known times than the clocks may differ.

    Microseconds, whole numbers or arrays of them; the intake asks the same.
    """
    return event_times > known + source.clock_skew_us


class Door:
    """Tells whether an event can be read, before it is in the log.

    What takes the log to tell (an id that came before, a clock ahead of its known time) is told by
    the intake later.

    Args:
        source: the declared source.
    """

    def __init__(self, source: EventSource) -> None:
        self._source, self._decoder = source, PayloadDecoder(source.schema)

    def refusal(self, payload: bytes, known: Micros) -> tuple[str, str] | None:
        """Return why the intake will make a dead letter of an event, whatever is in the log.

        Args:
            payload: the event.
            known: when it became known.

        Returns:
            Reason and detail as of a dead letter, None for an event that it takes.
        """
        found = self._decoder.decode([payload])
        if found.faults:
            return found.faults[0].reason, found.faults[0].detail
        event_time = to_micros(getattr(found.rows[0], self._source.event_time))
        if is_ahead(self._source, event_time, known):
            return "future", f"{format_duration(event_time - known)} ahead"
        if str(getattr(found.rows[0], self._source.event_id)) == "":
            return f"invalid_field:{self._source.event_id}", "the id is empty"
        return None

    def read(self, payload: bytes) -> dict[str, Any] | None:
        """Return what an event says, by field; None where it cannot be read."""
        rows = self._decoder.decode([payload]).rows
        names = self._source.schema.names()
        return {name: getattr(rows[0], name) for name in names} if rows else None

    def judge(self, payloads: Sequence[bytes]) -> Judged:
        """Return which payloads are accepted, and which are turned away and why."""
        faults = self._decoder.decode(payloads).faults
        if not faults:
            return Judged(list(payloads), [])
        rejected = [Rejected(fault.place, fault.reason, fault.detail) for fault in faults]
        out = {fault.place for fault in faults}
        return Judged([p for place, p in enumerate(payloads) if place not in out], rejected)
