"""A training in a process of its own.

A child that is killed, for its memory or by a fault in native code, is a training that failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from threading import Event
from typing import Any

from homeostat.core.hashing import content_hash
from homeostat.declare.system import System
from homeostat.runtime.own_process import DeclaredOtherwise, OwnProcess, ProcessDied
from homeostat.runtime.trainings import Failed, Outcome, Training, carry_out

__all__ = ["DeclaredOtherwise", "TrainingProcess"]


@dataclass(frozen=True, slots=True)
class TrainingProcess:
    """Carries out trainings of the system declared in a file, on the home in a folder."""

    system: System
    path: Path
    folder: Path

    def __call__(self, training: Training, stopped: Event) -> Outcome | None:
        """Train, and return what came of it; None if `stopped` was set before.

        Raises:
            DeclaredOtherwise: the file was changed since, or cannot be loaded any more.
        """
        asked = {"model": training.model, "at": training.at, "champion": training.champion}
        own = OwnProcess(self.system, self.path, self.folder)
        try:
            body = own.call(f"{__name__}:train", asked, stopped, "training")
        except ProcessDied as died:
            return Outcome(_died(training, died))
        return None if body is None else Outcome.from_json(body)


def _died(training: Training, died: ProcessDied) -> Failed:
    advice = died.advice
    if died.status == -SIGKILL:
        advice += ": shorten the history of the split"
    evidence = {
        "type": "ProcessDied",
        "message": died.found,
        "where": "the training process",
        "declared": content_hash(training.deployment.model),
    }
    return Failed(f"training failed: {died.found}; {advice}", {"failed": evidence})


def train(system: System, path: Path, folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Train in this process, which is the child."""
    from homeostat.runtime.home import lake_of
    from homeostat.runtime.profile import load_storage
    from homeostat.runtime.same_lake import places_of
    from homeostat.runtime.training import Trainer
    from homeostat.train.registry import Registry

    lake = lake_of(places_of(folder, load_storage(path)), system)
    registry = Registry(folder / "meta.db", folder / "packages")
    model = asked["model"]
    retrain = system.retrain(model)
    training = Training(
        system.deployment(model),
        asked["at"],
        asked["champion"],
        () if retrain is None else retrain.companions,
    )
    return carry_out(training, Trainer(system, lake, registry), registry.load).as_json()
