"""A home goes with one lake: where its days were put, there they are looked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from homeostat.core.errors import HomeostatError
from homeostat.declare.storage import Storage
from homeostat.lake.locations import Location

__all__ = ["OtherLake", "Places", "kept_places", "places_of"]

FILE = "lake.json"
OWN = "lake"


class OtherLake(HomeostatError):
    """A home was opened with a lake elsewhere than it was begun with."""

    def __init__(self, tier: str, found: str | None, kept: str, file: Path) -> None:
        super().__init__(
            f"lake of home {file.parent}, {tier} days: they are in {kept!r}, and the profile says "
            f"{found!r}; allowed: the place where they are; correct it, or copy the tables first "
            f"and then write the new place into {file}"
        )


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tables of a home are: the hot days, and the cold ones if they are elsewhere."""

    hot: Path | str
    cold: Path | str | None


def places_of(folder: Path, storage: Storage) -> Places:
    """Return where a home's tables are; a new home remembers it.

    Raises `OtherLake` if they were elsewhere so far. A cold place may be added at any time, and be
    another one until a day has moved there.
    """
    hot = None if storage.location is None else Location.of(storage.location).url
    cold = None if storage.cold is None else Location.of(storage.cold).url
    file = folder / FILE
    if not file.exists():
        kept = {"hot": OWN} if (folder / OWN).exists() else {"hot": hot or OWN}
    else:
        kept = json.loads(file.read_text())
    if kept["hot"] != (hot or OWN):
        raise OtherLake("hot", hot or OWN, kept["hot"], file)
    if kept.get("cold") not in (None, cold) and Location.of(kept["cold"]).tables():
        raise OtherLake("cold", cold, kept["cold"], file)
    said = {"hot": kept["hot"], "cold": cold}
    if said != kept:
        waiting = file.with_suffix(".new")
        waiting.write_text(json.dumps(said))
        waiting.replace(file)
    return Places(hot or folder / OWN, cold)


def kept_places(folder: Path) -> Places:
    """Return where a home that has begun remembers its tables to be."""
    file = folder / FILE
    kept = json.loads(file.read_text()) if file.exists() else {"hot": OWN}
    return Places(folder / OWN if kept["hot"] == OWN else kept["hot"], kept.get("cold"))
