"""Many byte strings in one buffer, so that compiled loops can walk over them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

__all__ = ["Payloads"]

Int64s = npt.NDArray[np.int64]


class Payloads(Sequence[bytes]):
    """A sequence of byte strings: string i is `body[starts[i]:ends[i]]`.

    Args:
        body: the buffer, uint8.
        starts: where each string begins, int64 of shape (n,); in any order, gaps are allowed.
        ends: where each ends, int64 of shape (n,).

    >>> found = Payloads.of([b"ab", b"", b"c"])
    >>> found[0], list(found[1:]), found == [b"ab", b"", b"c"]
    (b'ab', [b'', b'c'], True)
    """

    __slots__ = ("body", "ends", "starts")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, body: npt.NDArray[np.uint8], starts: Int64s, ends: Int64s) -> None:
        self.body, self.starts, self.ends = body, starts, ends

    @classmethod
    def of(cls, strings: Iterable[bytes]) -> Payloads:
        """Return the same strings in one buffer; of `Payloads`, themselves."""
        if isinstance(strings, cls):
            return strings
        listed = list(strings)
        ends = np.zeros(len(listed) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, listed), np.int64, len(listed)), out=ends[1:])
        return cls(np.frombuffer(b"".join(listed), np.uint8), ends[:-1], ends[1:])

    @classmethod
    def lines(cls, text: bytes) -> Payloads:
        r"""Return the lines of a text, without their line breaks; blank ones are left out.

        >>> list(Payloads.lines(b'a\n\n \nbc'))
        [b'a', b'bc']
        """
        from homeostat.ingest.buffers import line_bounds

        body = np.frombuffer(text, np.uint8)
        return cls(body, *line_bounds(body))

    @classmethod
    def joined(cls, parts: Sequence[Payloads]) -> Payloads:
        """Return the strings of several sequences, one after the other."""
        if len(parts) == 1:
            return parts[0]
        begins = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part.body) for part in parts], out=begins[1:])
        return cls(
            np.concatenate([np.empty(0, np.uint8), *(part.body for part in parts)]),
            np.concatenate([part.starts + b for part, b in zip(parts, begins, strict=False)]),
            np.concatenate([part.ends + b for part, b in zip(parts, begins, strict=False)]),
        )

    @property
    def lengths(self) -> Int64s:
        """How many bytes each string has, int64 of shape (n,)."""
        return self.ends - self.starts

    def take(self, places: Int64s) -> Payloads:
        """Return some of the strings, in the order of `places`, over the same buffer."""
        return Payloads(self.body, self.starts[places], self.ends[places])

    def packed(self) -> bytes:
        """Return all strings one after the other, without gaps."""
        if not len(self):
            return b""
        if np.array_equal(self.starts[1:], self.ends[:-1]):
            return self.body[self.starts[0] : self.ends[-1]].tobytes()
        from homeostat.ingest.buffers import gathered

        return gathered(self.body, self.starts, self.ends).tobytes()

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> Payloads: ...
    def __getitem__(self, place: int | slice) -> bytes | Payloads:
        if isinstance(place, slice):
            return Payloads(self.body, self.starts[place], self.ends[place])
        return self.body[self.starts[place] : self.ends[place]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        body = self.body.tobytes() if len(self.body) < 4 * int(self.lengths.sum()) else None
        for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True):
            yield self.body[start:end].tobytes() if body is None else body[start:end]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return list(self) == list(other)

    def __repr__(self) -> str:
        return f"Payloads({list(self)!r})"
