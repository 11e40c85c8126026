"""The pages of busy entities: rows too many for a record, each page a value of its own.

What is rare is done here, record by record: older rows move to pages, late events are put in
their page, pages that no window reaches are dropped. How a page looks is told in `record.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homeostat.aggregate.arrays import Ints
from homeostat.core.errors import HomeostatError
from homeostat.core.store import Reader, Writer
from homeostat.features.record import BEFORE, EVICTED, KNOWN, NEXT, PAGES, Record

__all__ = ["Pages"]

_TIES = 1 << 63
"""Numbers from here on are no pages but the ties of some."""

_TOGETHER = 4
"""The ties of 2^4 pages lie together."""


class Pages:
    """The pages of one view's records.

    A record's pages lie under the key that `key` makes of its own and a page's number. Beside them
    are the lower halves of their rows' ties: so a request finds out at little cost that its own
    event is in none of them. Ties of pages that are gone may be among them.
    """

    def __init__(self, record: Record, prefixes: tuple[bytes, bytes]) -> None:
        self._record = record
        self._of_records, self._of_pages = prefixes

    def key(self, key: bytes, number: int) -> bytes:
        """Return the key of a page of the record at `key`; no other record has such a page."""
        return self._of_pages + key[len(self._of_records) :] + number.to_bytes(8, "big")

    def raw(self, reader: Reader, key: bytes, number: int) -> bytes:
        """Return a page as it lies in the store."""
        raw = reader.get(self.key(key, number))
        if raw is None:
            raise HomeostatError(
                f"store: page {number} of the record {key!r} is missing; allowed: every page that "
                "a record names; fill the view again from the lake (`homeostat apply`)"
            )
        return raw

    def load(self, reader: Reader, key: bytes, number: int) -> Ints:
        """Return the rows of a page, shape (n, width)."""
        words = np.frombuffer(self.raw(reader, key, number), np.int64)
        return words.reshape(-1, self._record.width)

    def entries(self, words: Ints) -> Ints:
        """Return the directory of a record, shape (pages, entry), from the oldest page on."""
        begin, end = self._record.directory(words)
        return words[begin:end].reshape(-1, self._record.entry)

    def may_have(self, reader: Reader, key: bytes, words: Ints, tie: int) -> bool:
        """Return whether a row with this tie may be in a page of a record; False if in none."""
        wanted = np.uint32(tie & 0xFFFFFFFF)
        parts = (reader.get(self.key(key, part)) for part in self._parts(self.entries(words)))
        return any(bool((np.frombuffer(raw or b"", np.uint32) == wanted).any()) for raw in parts)

    def whole(self, reader: Reader, key: bytes, words: Ints) -> Ints:
        """Return the record as it would be without pages."""
        begin, end = self._record.directory(words)
        rows = words[end:].reshape(-1, self._record.width).copy()
        lanes = self._lanes
        tables = [self.load(reader, key, int(entry[0])).copy() for entry in self.entries(words)]
        base = rows[0, lanes] - sum(table[-1, lanes] for table in tables)
        sentinel = rows[:1].copy()
        sentinel[0, lanes] = base
        for table in tables:
            last = table[-1, lanes].copy()
            table[:, lanes] += base
            base = base + last
        head = words[:begin].copy()
        head[PAGES] = 0
        return np.concatenate([head, *(t.reshape(-1) for t in (sentinel, *tables, rows[1:]))])

    def cut_off(self, writer: Writer, key: bytes, words: Ints) -> Ints:
        """Move older rows to new pages, so that between one and two pages of rows are left."""
        begin, end = self._record.directory(words)
        rows = words[end:].reshape(-1, self._record.width)
        size = self._record.page
        head = words[:begin].copy()
        made = []
        first = 1
        while len(rows) - first > 2 * size:
            page = self._page(rows[first : first + size], rows[first - 1])
            made.append(self._write(writer, key, head, page))
            first += size
        rows = rows[first - 1 :].copy()
        rows[0, :2] = BEFORE
        head[PAGES] += len(made)
        return np.concatenate([head, words[begin:end], *made, rows.reshape(-1)])

    def evict(self, writer: Writer, key: bytes, words: Ints) -> Ints:
        """Drop the pages that no later read can reach."""
        begin, end = self._record.directory(words)
        entries = self.entries(words)
        horizon = int(words[KNOWN]) - self._record.reach
        gone = int(np.searchsorted(entries[:, 3], horizon))
        head = words[:begin].copy()
        for entry in entries[:gone].tolist():
            writer.delete(self.key(key, entry[0]))
            head[EVICTED] = max(int(head[EVICTED]), entry[3])
        head[PAGES] -= gone
        self._forget(writer, key, entries[:gone], entries[gone:])
        return np.concatenate([head, entries[gone:].reshape(-1), words[end:]])

    def insert(self, writer: Writer, key: bytes, words: Ints, rows: Ints) -> Ints:
        """Put late events into their pages.

        `rows` (n, width) have the lanes of the events themselves, and equal ones are in the order
        of the log.
        """
        begin, end = self._record.directory(words)
        lanes = self._lanes
        head, entries = words[:begin].copy(), list(self.entries(words))
        inline = words[end:].reshape(-1, self._record.width).copy()
        inline[:, lanes] += rows[:, lanes].sum(axis=0)
        made: list[Ints] = []
        for place, entry in enumerate(entries):
            here = np.array([_is_before(row, entry[3:5]) for row in rows[:, :2]], np.bool_)
            mine, rows = rows[here], rows[~here]
            made += [entry] if not len(mine) else self._merged(writer, key, head, entry, mine)
            if not len(rows):
                made += entries[place + 1 :]
                break
        head[PAGES] = len(made)
        self._forget(writer, key, self.entries(words), np.array(made))
        return np.concatenate([head, *made, inline.reshape(-1)])

    def _merged(
        self, writer: Writer, key: bytes, head: Ints, entry: Ints, rows: Ints
    ) -> Sequence[Ints]:
        """Merge events into one page, and cut it in two where it becomes too long."""
        lanes = self._lanes
        table = self.load(writer, key, int(entry[0])).copy()
        table[1:, lanes] = np.diff(table[:, lanes], axis=0)
        table = np.concatenate([table, rows])
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        table[:, lanes] = np.cumsum(table[:, lanes], axis=0)
        writer.delete(self.key(key, int(entry[0])))
        nothing = np.zeros(self._record.width, np.int64)
        if len(table) <= 2 * self._record.page:
            return [self._write(writer, key, head, self._page(table, nothing))]
        half = len(table) // 2
        parts = self._page(table[:half], nothing), self._page(table[half:], table[half - 1])
        return [self._write(writer, key, head, part) for part in parts]

    def _page(self, rows: Ints, before: Ints) -> Ints:
        """Return rows with running sums that begin with them."""
        page = rows.copy()
        page[:, self._lanes] -= before[self._lanes]
        return page

    def _write(self, writer: Writer, key: bytes, head: Ints, page: Ints) -> Ints:
        """Write a page under the next number, and return its directory entry."""
        from homeostat.features.state_rows import described

        entry = np.empty(self._record.entry, np.int64)
        described(self._record.lanes, page, entry)
        entry[0] = head[NEXT]
        writer.put(self.key(key, int(entry[0])), page.tobytes())
        (part,) = self._parts(entry[None])
        before = writer.get(self.key(key, part)) or b""
        writer.put(self.key(key, part), before + page[:, 1].astype(np.uint32).tobytes())
        head[NEXT] += 1
        return entry

    def _forget(self, writer: Writer, key: bytes, before: Ints, left: Ints) -> None:
        """Drop ties of which no page is left."""
        for part in sorted(self._parts(before) - self._parts(left)):
            writer.delete(self.key(key, part))

    def _parts(self, entries: Ints) -> set[int]:
        """Return the numbers under which the ties of pages lie."""
        return {_TIES | number >> _TOGETHER for number in entries[:, 0].tolist()}

    @property
    def _lanes(self) -> slice:
        return slice(2, 2 + self._record.lanes)


def _is_before(row: Ints, last: Ints) -> bool:
    return bool(tuple(row.tolist()) < tuple(last.tolist()))
