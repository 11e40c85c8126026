"""Reads a `system.py`: the file is run once, and its one System is taken.

The file's folder comes first on the path while it runs, and last from then on: what declarations
name by text (an estimator) is imported later, and may lie beside the file.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import redirect_stdout
from pathlib import Path
from traceback import walk_stack, walk_tb
from types import ModuleType, TracebackType

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
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except HomeostatError as mistake:
        _locate(mistake, path, _lines(mistake.__traceback__, path))
        raise
    except Exception as broken:
        lines = _lines(broken.__traceback__, path)
        words = str(broken)
        if isinstance(broken, SyntaxError) and broken.filename == str(path.absolute()):
            lines, words = [broken.lineno or 0], broken.msg
        where = f", line {lines[-1]}" if lines else ""
        raise SystemFileError(
            f"system file {path}{where}: {type(broken).__name__}: {words}; allowed: a file that "
            "Python can run; correct that line"
        ) from broken
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)
    return module


def _lines(trace: TracebackType | None, path: Path) -> list[int]:
    """Return the lines of a file that a traceback goes through, the innermost last."""
    file = str(path.absolute())
    return [line for frame, line in walk_tb(trace) if frame.f_code.co_filename == file]


def _locate(mistake: HomeostatError, path: Path, lines: list[int]) -> None:
    if lines:
        mistake.add_note(f"{path}:{lines[-1]}")


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
    """Return the system, if the file ends in one, and every mistake at once.

    A mistake's note says which line of the file made it.
    """

    def seen(mistake: HomeostatError) -> None:
        file = str(path.absolute())
        stack = [line for frame, line in walk_stack(None) if frame.f_code.co_filename == file]
        found = mistake.mistakes if isinstance(mistake, SystemInvalid) else [mistake]
        for one in found:
            _locate(one, path, stack[:1])

    flat: list[HomeostatError] = []
    module: ModuleType | None = None
    with collecting(seen) as mistakes:
        try:
            module = _run(path)
        except HomeostatError as stopped:
            mistakes.append(stopped)
    for mistake in mistakes:
        flat.extend(mistake.mistakes if isinstance(mistake, SystemInvalid) else [mistake])
    if module is None:
        return None, flat
    try:
        return _system_of(module, path), flat
    except SystemFileError as missing:
        return None, flat or [missing]
