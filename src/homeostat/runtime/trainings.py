"""A training as a value: what is asked for, what came of it, and how it is carried out.

Whatever a training raises is an outcome with its reason, so that it can be journaled; only what
ends the process (Ctrl-C) goes through.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from traceback import walk_tb
from types import FrameType
from typing import Any

from homeostat.core.durations import Micros
from homeostat.core.errors import text_of
from homeostat.core.hashing import content_hash
from homeostat.declare.deployments import Deployment
from homeostat.declare.models import Model
from homeostat.deploy.decide import Candidate
from homeostat.runtime.training import Alteration, Trained, Trainer
from homeostat.train.dataset import TrainingRefused
from homeostat.train.package import Package, PackageCorrupt

__all__ = ["Failed", "Outcome", "Training", "carry_out", "failed", "go_through", "sentence_of"]

LONGEST = 600
"""Characters of a failure's message that are journaled."""

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{4,}")
_PLACES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


@dataclass(frozen=True, slots=True)
class Training:
    """A training that is journaled: of which deployed model, as of when, compared with what.

    `companions` are trained on the same occasion and never served.
    """

    deployment: Deployment
    at: Micros
    champion: int | None
    companions: tuple[Model, ...] = ()
    alteration: Alteration | None = None

    @property
    def model(self) -> str:
        """The model's name."""
        return self.deployment.model.name


@dataclass(frozen=True, slots=True)
class Failed:
    """Why nothing came of a training; `evidence` is empty where it was refused by rule."""

    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training: a candidate, or why there is none; and which companions failed."""

    found: Candidate | Failed
    companions: tuple[tuple[str, Failed], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values; `from_json` reads them back."""
        found = self.found
        if isinstance(found, Failed):
            body: dict[str, Any] = {"reason": found.reason, "evidence": dict(found.evidence)}
        else:
            body = {
                "version": found.version, "passed": found.passed, "reason": found.reason,
                "evidence": dict(found.evidence),
            }  # fmt: skip
        others = [[name, why.reason, dict(why.evidence)] for name, why in self.companions]
        return {"found": body, "companions": others}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Outcome:
        """Return the outcome that was written with `as_json`."""
        kind = Candidate if "version" in body["found"] else Failed
        others = tuple((name, Failed(why, more)) for name, why, more in body["companions"])
        return cls(kind(**body["found"]), others)


def carry_out(
    training: Training,
    trainer: Trainer,
    package_of: Callable[[str, int], Package],
    through: tuple[type[Exception], ...] = (),
) -> Outcome:
    """Train, judge and register a candidate; return what came of it, whatever was raised.

    What is `through` is raised: where decisions must be the same again, the machine has no part.
    """
    model = training.deployment.model
    try:
        champion = _champion(training, package_of)
        trained = trainer.train(model, training.at, champion, training.alteration)
        found = _candidate(trained)
    except through:
        raise
    except BaseException as broken:  # noqa: BLE001 - a panic of a native library is one, too
        return Outcome(_refused_or_failed(model, broken))
    others = []
    for companion in training.companions:
        try:
            trainer.train(companion, training.at)
        except through:
            raise
        except BaseException as broken:  # noqa: BLE001 - the same
            others.append((companion.name, _refused_or_failed(companion, broken)))
    return Outcome(found, tuple(others))


def _champion(training: Training, package_of: Callable[[str, int], Package]) -> Package | None:
    """Return what is compared with; a damaged one is nothing to compare with, and gates say so."""
    if training.champion is None:
        return None
    try:
        return package_of(training.model, training.champion)
    except (PackageCorrupt, OSError):
        return None


def _refused_or_failed(model: Model, broken: BaseException) -> Failed:
    if isinstance(broken, TrainingRefused):
        return Failed(text_of(broken))
    return failed(model, broken)


def failed(model: Model, broken: BaseException) -> Failed:
    """Return a failure as a value; raise what ends the process."""
    go_through(broken)
    kind, message, where = type(broken).__name__, _one_line(text_of(broken)), _where(broken)
    evidence = {
        "type": kind,
        "message": message,
        "where": where,
        "declared": content_hash(model),
    }
    told = f"{kind}: {message}" if message else kind
    return Failed(f"training failed: {told} (in {where})", {"failed": evidence})


def go_through(broken: BaseException) -> None:
    """Raise Ctrl-C; all else, an exit of the user's code too, is a failure of what raised it."""
    if isinstance(broken, KeyboardInterrupt):
        raise broken


def sentence_of(broken: BaseException) -> str:
    """Return a failure in one line: its type, its message, and where it was raised.

    >>> sentence_of(ValueError("two\\nlines"))
    'ValueError: two lines (in an unknown place)'
    """
    return f"{type(broken).__name__}: {_one_line(text_of(broken))} (in {_where(broken)})"


def _one_line(message: str) -> str:
    """Return a message that is the same in every run: in one line, without addresses."""
    words = _ADDRESS.sub("0x...", " ".join(message.split()))
    return words if len(words) <= LONGEST else words[:LONGEST] + "..."


def _where(broken: BaseException) -> str:
    """Return the innermost place in code of the user, else of ours, else of anybody."""
    frames = [(frame, line) for frame, line in walk_tb(broken.__traceback__)]
    if not frames:
        return "an unknown place"
    of_users = [place for place in frames if _is_users(place[0])]
    ours = [place for place in frames if _module(place[0]).partition(".")[0] == "homeostat"]
    frame, line = (of_users or ours or frames)[-1]
    return f"{_module(frame)}.{frame.f_code.co_name}, line {line}"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "unknown"))


def _is_users(frame: FrameType) -> bool:
    name = _module(frame).partition(".")[0]
    if name == "homeostat" or name in sys.stdlib_module_names:
        return False
    return not frame.f_code.co_filename.startswith((*_PLACES, "<frozen"))


def _candidate(trained: Trained) -> Candidate:
    judged = trained.judgement.as_json()
    evidence = {
        "hash": trained.package.hash,
        "threshold": judged["threshold"],
        "threshold_on_validation": trained.package.metrics["threshold"],
        "parts": trained.package.lineage.parts,
        "rows": judged["rows"],
        "metrics": judged["metrics"],
        "results": judged["gates"],
    }
    judgement = trained.judgement
    return Candidate(trained.version, judgement.passed, judgement.reason, evidence)
