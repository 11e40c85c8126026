"""What is remembered of a source's ids, however its runs were cut and merged."""

from __future__ import annotations

from homeostat.core.store import Writer
from homeostat.ingest.seen_merge import SIZES
from homeostat.ingest.seen_runs import Manifest, Room, RunFiles

__all__ = ["remembered"]


def remembered(writer: Writer, source: str) -> list[tuple[int, ...]]:
    """Return all (id, offset, content, known time) that are kept, sorted, each once."""
    files = RunFiles(writer, source, SIZES.chunk, Room())
    raw = files.read_manifest()
    if raw is None:
        return []
    found: set[tuple[int, ...]] = set()
    for run in Manifest.unpack(raw, source).runs:
        for chunk in range(run.chunks):
            found.update(map(tuple, files.chunk(run.number, chunk).T.tolist()))
    return sorted(found)
