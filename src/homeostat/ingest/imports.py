"""A file imported by hand: an import that was cut off goes on, a finished one begins anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from homeostat.core.durations import Micros
from homeostat.declare.sources import EventSource
from homeostat.ingest.files import payloads_of
from homeostat.ingest.log import Advance, EventLog
from homeostat.ingest.payloads import Payloads

__all__ = ["Batch", "import_of"]

Batch = tuple[npt.NDArray[np.int64], Payloads, tuple[Advance, ...]]
"""Known times, payloads, and the step to append with them."""

_DONE = ""
_READING = 3
"""Changes where the same file becomes other records: an import of before then begins anew."""


def import_of(
    source: EventSource,
    path: Path,
    known: Micros | str | None,
    log: EventLog,
    latest: Micros | None = None,
    told: Callable[[str], None] = lambda note: None,
) -> Iterator[Batch]:
    """Yield the batches of a file that are not in the log yet, to be appended one by one.

    `known`, `latest` and `told` are as in `payloads_of`. Where the same file was imported to its
    end, or is another file by now, all of it is yielded.
    """
    stream = f"import/{path.resolve().as_posix().encode(errors='backslashreplace').decode()}"
    said = log.positions(source.name).get(stream)
    rule = "instant" if isinstance(known, int) else known
    check = f"{_digest(path)} {rule} {_READING}"
    found = json.loads(said) if said else {}
    begin = int(found["taken"]) if found.get("check") == check else 0
    taken, waiting = 0, None
    for instants, payloads in payloads_of(source, path, known, latest, told):
        taken += len(payloads)
        if taken <= begin:
            continue
        if waiting is not None:
            before, to = said, json.dumps({"check": check, "taken": taken - len(payloads)})
            said = to
            yield *waiting, (Advance(stream, before, to),)
        waiting = instants, payloads
    if waiting is not None:
        yield *waiting, (Advance(stream, said, _DONE),)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
