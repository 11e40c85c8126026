"""Which definitions the online store has the whole state of, and the end of those nobody needs.

A definition is marked in the transaction that fills it. From then on every fold adds to it, until
no declaration and no version in service needs it: then its mark goes first, and its records
follow in bites, so that no fold waits long and a kill in between leaves nothing that is believed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from homeostat.core.hashing import content_hash
from homeostat.core.store import Snapshot, Writer
from homeostat.declare.views import FeatureView
from homeostat.features.keys import view_stem
from homeostat.features.state_format import STATE_FORMAT

__all__ = [
    "begin_filling",
    "clear",
    "filled_stems",
    "is_marked",
    "mark_filled",
    "retire",
    "retire_unmarked",
    "state_size",
    "stems_of",
    "sweep",
]

FILLED, FILLING, LEAVING, VIEWS = b"filled/", b"filling/", b"leaving/", b"view/"
PARTS = (b"/", b"-", b"+")
"""What follows a stem in the keys of a view's records, older rows and pages."""

BITE = 20_000
"""At most so many keys are deleted in one transaction."""


def stems_of(views: Iterable[Mapping[str, Any]]) -> set[bytes]:
    """Return what the keys of views start with, from their JSON."""
    return {
        f"view/{view['name']}@{content_hash(view)[:12]}.{STATE_FORMAT}".encode() for view in views
    }


def is_marked(reader: Snapshot) -> bool:
    """Whether the store has marks at all: earlier releases made none."""
    return next(reader.scan(FILLED), None) is not None


def filled_stems(reader: Snapshot) -> set[bytes]:
    """Return the stems of the definitions whose whole state is there."""
    return {key[len(FILLED) :] for key, _ in reader.scan(FILLED)}


def state_size(reader: Snapshot, stem: bytes) -> tuple[int, int]:
    """Return how many entities a definition has state of, and how many bytes that takes."""
    entities = sum(1 for _ in reader.scan(stem + PARTS[0]))
    size = sum(len(key) + len(value) for part in PARTS for key, value in reader.scan(stem + part))
    return entities, size


def mark_filled(writer: Writer, stem: bytes) -> None:
    """Note that the state of a definition holds all that was folded of its source."""
    writer.put(FILLED + stem, b"")
    writer.delete(FILLING + stem)
    writer.delete(LEAVING + stem)


def begin_filling(writer: Writer, stem: bytes) -> None:
    """Note that a definition is filled in several transactions; a kill leaves this behind."""
    writer.put(FILLING + stem, b"")


def clear(writer: Writer, view: FeatureView) -> None:
    """Delete all state of one definition, before it is filled."""
    stem = view_stem(view)
    writer.delete(FILLED + stem)
    writer.delete(FILLING + stem)
    writer.delete(LEAVING + stem)
    for key in list(_keys(writer, stem)):
        writer.delete(key)


def retire(writer: Writer, needed: Iterable[FeatureView], filling: Collection[bytes] = ()) -> int:
    """Take the marks of all definitions that are not needed; return how many wait to be swept.

    `filling` are the stems that are being filled now; others were left by a kill.
    """
    kept = {view_stem(view) for view in needed}
    for stem in filled_stems(writer) - kept:
        writer.delete(FILLED + stem)
        writer.put(LEAVING + stem, b"")
    for key, _ in list(writer.scan(FILLING)):
        stem = key[len(FILLING) :]
        if stem not in filling:
            writer.delete(key)
            writer.put(LEAVING + stem, b"")
    return sum(1 for _ in writer.scan(LEAVING))


def sweep(writer: Writer) -> bool:
    """Delete some records of definitions that were retired; return whether there are more."""
    for mark, _ in list(islice(writer.scan(LEAVING), 1)):
        gone = list(islice(_keys(writer, mark[len(LEAVING) :]), BITE))
        for key in gone:
            writer.delete(key)
        if len(gone) < BITE:
            writer.delete(mark)
    return next(writer.scan(LEAVING), None) is not None


def retire_unmarked(writer: Writer, needed: Iterable[FeatureView]) -> None:
    """Let all state go that an earlier release left, and that is not needed."""
    kept, known = {view_stem(view) for view in needed}, set[bytes]()
    for key, _ in writer.scan(VIEWS):
        at = min(place for part in PARTS if (place := key.find(part, len(VIEWS))) > 0)
        known.add(key[:at])
    for stem in known - kept:
        writer.put(LEAVING + stem, b"")


def _keys(reader: Snapshot, stem: bytes) -> Iterator[bytes]:
    for part in PARTS:
        for key, _ in reader.scan(stem + part):
            yield key
