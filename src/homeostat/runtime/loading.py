"""Reads a `system.py`: the file is run once, and its one System is taken."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from homeostat.core.errors import HomeostatError, SystemInvalid
from homeostat.declare.mistakes import collecting
from homeostat.declare.system import System

__all__ = ["SystemFileError", "check_system", "load_system"]


class SystemFileError(HomeostatError):
    """A file that holds no system, or cannot be run."""


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise SystemFileError(
            f"system file {path}: not found; allowed: a Python file that ends in System(...); "
            "write one with `homeostat init`, or name it with --system"
        )
    name = f"homeostat_system_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SystemFileError(f"system file {path}: it is no Python file; rename it to end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _system_of(module: ModuleType, path: Path) -> System:
    found = {id(v): v for v in vars(module).values() if isinstance(v, System)}
    if len(found) != 1:
        names = ", ".join(sorted(v.name for v in found.values())) or "none"
        raise SystemFileError(
            f"system file {path}: {len(found)} systems ({names}); allowed: exactly one "
            "System(...); give the file one, assigned to a name such as `system`"
        )
    return next(iter(found.values()))


def load_system(path: Path) -> System:
    """Return the system that `path` declares; raise its first mistake."""
    return _system_of(_run(path), path)


def check_system(path: Path) -> tuple[System | None, list[HomeostatError]]:
    """Return the system, if the file ends in one, and every mistake at once."""
    with collecting() as mistakes:
        module = _run(path)
    flat: list[HomeostatError] = []
    for mistake in mistakes:
        flat.extend(mistake.mistakes if isinstance(mistake, SystemInvalid) else [mistake])
    try:
        system = _system_of(module, path)
    except SystemFileError as missing:
        return None, flat or [missing]
    return system, flat
