"""Stand-in: one key per id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homeostat.core.store import Writer

FRESH, DUPLICATE, CONFLICT = 0, 1, 2
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    verdicts: npt.NDArray[np.int8]
    remembered: Int64s


class SeenIds:
    def __init__(self, source: str, horizon_us: int | None) -> None:
        self._prefix = b"seen/" + source.encode() + b"/"

    def judge(
        self, writer: Writer, ties: Int64s, contents: Int64s, offsets: Int64s, known: Int64s
    ) -> Judged:
        verdicts = np.zeros(len(ties), np.int8)
        remembered = np.zeros(len(ties), np.int64)
        order = np.argsort(ties, kind="stable")
        keys = ties[order].astype(">i8").tobytes()
        said = np.stack([contents[order], offsets[order]], axis=1).tobytes()
        get, put, prefix = writer.get, writer.put, self._prefix
        for rank in range(len(order)):
            key = prefix + keys[8 * rank : 8 * rank + 8]
            value = said[16 * rank : 16 * rank + 16]
            found = get(key)
            if found is None:
                put(key, value)
            elif found[8:] != value[8:]:
                verdicts[order[rank]] = DUPLICATE if found[:8] == value[:8] else CONFLICT
                remembered[order[rank]] = int.from_bytes(found[:8], "little", signed=True)
        return Judged(verdicts, remembered)
