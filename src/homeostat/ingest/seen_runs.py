"""Sorted runs of seen ids in a store, and the manifest that says which there are.

An entry is four int64 words: tie, offset, content, known time. A run is entries in the order of
(tie, offset), cut into chunks; a chunk is one value of the store with the ties of its entries, then
their offsets, contents and known times. A run of several chunks has one more value: where each
begins. The manifest is rewritten with every change, so a transaction changes all or nothing.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError

if TYPE_CHECKING:
    from homeostat.core.store import Writer

__all__ = ["Job", "Manifest", "Position", "Room", "Run", "RunFiles", "SeenDamaged", "order_of"]

Int64s = npt.NDArray[np.int64]

_MAGIC = b"seen ids 1\0\0\0\0\0\0"
_FIRSTS = 2**32 - 1
"""Where the beginnings of a run's chunks are kept: a chunk that no run has."""


class SeenDamaged(HomeostatError):
    """The index of a source's ids is not what was written, or of another release."""

    def __init__(self, source: str, found: str) -> None:
        super().__init__(
            f"online store, ids seen from {source!r}: {found}; allowed: what this release writes; "
            "bring the home's store back from a copy, or empty it and fold the log again"
        )


class Run(NamedTuple):
    """A sorted run: its number, its size, and which offsets and known times are in it."""

    number: int
    entries: int
    chunks: int
    first_offset: int
    last_offset: int
    first_known: Micros
    last_known: Micros

    def joined(self, other: Run) -> Run:
        """Return this run with all that another holds behind its chunks."""
        return Run(
            self.number,
            self.entries + other.entries,
            self.chunks + other.chunks,
            min(self.first_offset, other.first_offset),
            max(self.last_offset, other.last_offset),
            min(self.first_known, other.first_known),
            max(self.last_known, other.last_known),
        )


class Position(NamedTuple):
    """How far a run has been merged: its number, the chunk, and the entry in it."""

    number: int
    chunk: int
    entry: int


@dataclass(frozen=True, slots=True)
class Job:
    """A merge that is under way: what is left of each run, and the run that it makes."""

    output: Run
    inputs: tuple[Position, ...]
    replaced: tuple[int, ...]


@dataclass(slots=True)
class Manifest:
    """What is there, oldest run first.

    `digest` tells one content from another: it is a chain over all that was ever remembered.
    `marks` are (offset, known time) of some records, by which it is judged what may be forgotten.
    `owed` is how many entries may still be merged for what was added.
    """

    digest: bytes = bytes(16)
    next_number: int = 0
    owed: int = 0
    marks: list[tuple[int, Micros]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    job: Job | None = None

    def pack(self, added: Int64s) -> bytes:
        """Return the manifest as bytes, with the digest that follows when these ids are added."""
        job = self.job
        rows: list[tuple[int, ...]] = [*self.marks, *self.runs]
        sizes = [len(self.marks), len(self.runs), 0, 0]
        if job is not None:
            rows += [job.output, *job.inputs, job.replaced]
            sizes[2:] = len(job.inputs), len(job.replaced)
        words = [self.next_number, self.owed, *sizes, *chain.from_iterable(rows)]
        body = struct.pack(f"<{len(words)}q", *words)
        chained = hashlib.blake2b(self.digest, digest_size=16)
        chained.update(np.ascontiguousarray(added).data)
        chained.update(body)
        self.digest = chained.digest()
        return _MAGIC + self.digest + body

    @classmethod
    def unpack(cls, raw: bytes, source: str) -> Manifest:
        """Return what `pack` gave."""
        if raw[:16] != _MAGIC or len(raw) % 8 or len(raw) < 80:
            raise SeenDamaged(source, f"a manifest that begins with {raw[:16]!r}")
        words = struct.unpack(f"<{(len(raw) - 32) // 8}q", raw[32:])
        next_number, owed, *sizes = words[:6]
        widths = (2, 7, 3, 1)
        if any(size < 0 for size in sizes) or len(words) != 6 + sum(
            size * width for size, width in zip(sizes, widths, strict=True)
        ) + (7 if sizes[3] else 0):
            raise SeenDamaged(source, f"a manifest cut off at {len(raw)} bytes")
        marks, runs, inputs, replaced = sizes
        at = 6 + 2 * marks
        end = at + 7 * runs
        made = cls(
            raw[16:32],
            next_number,
            owed,
            list(zip(words[6:at:2], words[7:at:2], strict=True)),
            [Run(*words[begin : begin + 7]) for begin in range(at, end, 7)],
        )
        if replaced:
            behind = end + 7 + 3 * inputs
            positions = range(end + 7, behind, 3)
            made.job = Job(
                Run(*words[end : end + 7]),
                tuple(Position(*words[begin : begin + 3]) for begin in positions),
                words[behind:],
            )
        return made


class Room:
    """Memory for entries that is used again: asking the system for it costs more than the work."""

    def __init__(self) -> None:
        self._words = np.empty(0, np.int64)

    def of(self, count: int) -> Int64s:
        """Return room for entries, int64 of shape (4, count), in place of what was there."""
        if len(self._words) < 4 * count:
            self._words = np.empty(4 * count, np.int64)
        return self._words[: 4 * count].reshape(4, count)


class RunFiles:
    """The runs of one source in one transaction.

    Arrays that it returns lie in the store's memory: they hold until the next write. `room` is for
    whoever merges runs.
    """

    def __init__(self, writer: Writer, source: str, chunk: int, room: Room) -> None:
        self._writer, self._source, self._chunk, self.room = writer, source, chunk, room
        self._prefix = b"ids/" + source.encode() + b"/"

    def read_manifest(self) -> bytes | None:
        """Return the manifest as it was packed, None before the first."""
        return self._writer.get(self._prefix)

    def write_manifest(self, raw: bytes) -> None:
        """Keep a packed manifest."""
        self._writer.put(self._prefix, raw)

    def chunk(self, number: int, chunk: int) -> Int64s:
        """Return the entries of a chunk, int64 of shape (4, entries)."""
        return self._words(number, chunk).reshape(4, -1)

    def firsts(self, run: Run) -> Int64s:
        """Return tie and offset of the first entry of each chunk, int64 of shape (2, chunks)."""
        if run.chunks > 1:
            return self._words(run.number, _FIRSTS).reshape(2, -1)
        return np.ascontiguousarray(self.chunk(run.number, 0)[:2, :1])

    def write(self, number: int, entries: Int64s) -> Run:
        """Write a run, in the place of one of that number and at most as many entries."""
        return self.extend(None, number, entries)

    def extend(self, run: Run | None, number: int, entries: Int64s) -> Run:
        """Write entries behind those of a run (None: of a new one); they follow in order."""
        done = run.chunks if run else 0
        count = entries.shape[1]
        cuts = range(0, count, self._chunk)
        for place, begin in enumerate(cuts, done):
            part = np.ascontiguousarray(entries[:, begin : begin + self._chunk])
            self._writer.put(self._key(number, place), part.data)
        offsets, known = entries[1], entries[3]
        made = Run(
            number, count, len(cuts),
            int(offsets.min()), int(offsets.max()), int(known.min()), int(known.max()),
        )  # fmt: skip
        firsts = entries[:2, :: self._chunk]
        if run is not None:
            firsts = np.concatenate([self.firsts(run), firsts], axis=1)
            made = run.joined(made)
        if made.chunks > 1:
            self._writer.put(self._key(number, _FIRSTS), firsts.tobytes())
        return made

    def drop(self, run: Run) -> None:
        """Delete a run."""
        for chunk in range(run.chunks):
            self._writer.delete(self._key(run.number, chunk))
        if run.chunks > 1:
            self._writer.delete(self._key(run.number, _FIRSTS))

    def ties(self, run: Run, least: int, greatest: int) -> Iterator[Int64s]:
        """Yield the ties of a run between two, both included, by chunks."""
        firsts = self.firsts(run)[0]
        begin = max(int(np.searchsorted(firsts, least, side="left")) - 1, 0)
        end = int(np.searchsorted(firsts, greatest, side="right"))
        for chunk in range(begin, end):
            ties = self.chunk(run.number, chunk)[0]
            low = int(np.searchsorted(ties, least, side="left"))
            yield ties[low : int(np.searchsorted(ties, greatest, side="right"))]

    def _key(self, number: int, chunk: int) -> bytes:
        return self._prefix + number.to_bytes(8, "big") + chunk.to_bytes(4, "big")

    def _words(self, number: int, chunk: int) -> Int64s:
        value: Any = self._writer.lend(self._key(number, chunk))
        if value is None or len(value) % 16 or not len(value):
            size = "nothing" if value is None else f"{len(value)} bytes"
            raise SeenDamaged(self._source, f"{size} where chunk {chunk} of run {number} was")
        words = np.frombuffer(value, np.int64)
        return words if words.flags.aligned else words.copy()


def order_of(ties: Int64s, offsets: Int64s) -> Int64s:
    """Return the order of (tie, offset), stable, int64 of shape (n,).

    >>> order_of(np.array([3, 2, 3, 2]), np.array([1, 7, 0, 6])).tolist()
    [3, 1, 2, 0]
    """
    from homeostat.ingest.seen_loops import ordered

    order = np.empty(len(ties), np.int64)
    return order if ordered(ties, offsets, order) else np.lexsort((offsets, ties))
