"""The toy system as a person has it: a `system.py`, event files, and the real command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from homeostat.declare.system import System
from homeostat.testing.toy import toy_events, toy_system

__all__ = ["Answered", "Commands", "patient_toy", "write_toy"]

SYSTEM = """\
from homeostat.testing.toy_home import patient_toy

system = patient_toy()
"""


def patient_toy(*, trees: int = 8) -> System:
    """Return the toy with a deadline that a busy machine meets."""
    system = toy_system(trees=trees)
    deployments = tuple(replace(d, deadline="30s") for d in system.deployments)
    return replace(system, deployments=deployments)


def write_toy(folder: Path) -> None:
    """Write `system.py`, `payments.parquet` and `verdicts.parquet` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "system.py").write_text(SYSTEM)
    for name, frame in toy_events().items():
        frame.write_parquet(folder / f"{name}.parquet")


@dataclass(frozen=True, slots=True)
class Answered:
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The answer, read as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Commands:
    """Runs `homeostat` commands on a folder with a `system.py`, in this process.

    `home` is the home's folder, `system` the file of declarations.
    """

    folder: Path
    home: str = "state"
    system: str = "system.py"

    def __call__(self, *words: str | Path, typed: str | None = None) -> Answered:
        """Run one command; an exception that it lets through is raised here."""
        from click.testing import CliRunner

        from homeostat.runtime.cli import main

        result = CliRunner().invoke(
            main, [*map(str, words), *self.options()], input=typed, catch_exceptions=False
        )
        return Answered(result.exit_code, result.stdout, result.stderr)

    def options(self) -> Sequence[str]:
        """Return the options that lead to the system and its home."""
        return (
            "--system", str(self.folder / self.system), "--home", str(self.folder / self.home)
        )  # fmt: skip

    def ingest(self) -> None:
        """Take the toy's events in."""
        for source in ("payments", "verdicts"):
            path = self.folder / f"{source}.parquet"
            self("ingest", source, path, "--known-column", "known_at")

    def replay(self, *words: str) -> Answered:
        """Live through the toy's second week."""
        return self("replay", "--from", "2024-03-06", "--every", "12h", *words)
