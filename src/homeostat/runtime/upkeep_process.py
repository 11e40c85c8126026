"""Compaction of the lake and skew audits in a process of its own, where they are long."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

import polars as pl

from homeostat.declare.system import System
from homeostat.features.audit import Difference, SkewAudit
from homeostat.runtime.own_process import OwnProcess

__all__ = ["UpkeepProcess"]


@dataclass(frozen=True, slots=True)
class UpkeepProcess:
    """Does long upkeep of the system declared in a file, on the home in a folder.

    Each method raises `DeclaredOtherwise` if the file was changed since, and `ProcessDied` if the
    process ends before its work does.
    """

    system: System
    path: Path
    folder: Path

    def compact(self, stopped: Event) -> None:
        """Do a bounded piece of what there is to compact, or leave it when `stopped` is set."""
        self._own().call(f"{__name__}:tidied", {}, stopped, "compaction")

    def audit(self, model: str, sample: pl.DataFrame) -> SkewAudit:
        """Audit predictions of a model."""
        rows = io.BytesIO()
        sample.write_ipc(rows, compression="zstd")
        asked = {"model": model, "rows": base64.b64encode(rows.getvalue()).decode()}
        body = self._own().call(f"{__name__}:audited", asked, Event(), f"audit of {model!r}")
        assert body is not None  # nothing stops it
        differing = tuple(Difference(**one) for one in body.pop("differing"))
        return SkewAudit(**body, differing=differing)

    def _own(self) -> OwnProcess:
        return OwnProcess(self.system, self.path, self.folder)


def tidied(system: System, path: Path, folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Compact in this process, which is the child."""
    from homeostat.runtime.home import lake_of
    from homeostat.runtime.profile import load_storage
    from homeostat.runtime.same_lake import places_of
    from homeostat.runtime.upkeep import tidy

    tidy(lake_of(places_of(folder, load_storage(path)), system))
    return {}


def audited(system: System, path: Path, folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Audit in this process, which is the child."""
    from homeostat.runtime.auditing import Auditor
    from homeostat.runtime.home import Home
    from homeostat.runtime.log_place import log_of
    from homeostat.runtime.profile import load_log, load_storage

    sample = pl.read_ipc(io.BytesIO(base64.b64decode(asked["rows"])))
    log = log_of(folder, load_log(path, system))
    home = Home(folder, system, log=log, storage=load_storage(path))
    try:
        return asdict(Auditor(system, home).sampled(system.model(asked["model"]), sample))
    finally:
        home.close()
