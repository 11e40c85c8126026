"""Environments of contenders that cannot live in ours: made from pinned constraints, and kept."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["python_of"]

ROOT = Path(__file__).parents[1]


def python_of(name: str, folder: Path = ROOT / "build" / "venvs") -> Path:
    """Return the interpreter of an environment with what `constraints-NAME.txt` lists.

    It is made when first asked for, and again when the list has changed (about a minute); another
    process that asks meanwhile waits.
    """
    pinned = ROOT / f"constraints-{name}.txt"
    made_from, python = folder / name / "made-from.txt", folder / name / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made_from.exists() or made_from.read_text() != pinned.read_text():
            shutil.rmtree(folder / name, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(folder / name)])
            install = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(pinned)]
            _run([*install, "--disable-pip-version-check"])
            made_from.write_text(pinned.read_text())
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
