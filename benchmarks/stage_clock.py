"""Time by stage: functions and methods are wrapped in this process only, and every moment counts
for the innermost stage it falls into.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from inspect import isgeneratorfunction
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

__all__ = ["Stage", "StageClock", "timed"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the work, and what does it.

    Attributes:
        name: what the table calls it.
        targets: "module:function" or "module:Class.method", of which at least one must exist.
        ends: not the call counts, but the end of the context manager that it returns.
        whole: what other stages do within it counts for it.
    """

    name: str
    targets: Sequence[str]
    ends: bool = False
    whole: bool = False


class StageClock:
    """Wall and CPU seconds (of all threads) by stage; for one thread at a time.

    >>> clock = StageClock()
    >>> with clock.during("fold"), clock.during("commit"):
    ...     pass
    >>> sorted(clock.wall_s), clock.wall_s["commit"] >= 0
    (['commit', 'fold'], True)
    """

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = {}
        self.cpu_s: dict[str, float] = {}
        self._open: list[tuple[str, bool]] = []
        self._since = 0.0, 0.0

    @contextmanager
    def during(self, stage: str, *, whole: bool = False) -> Iterator[None]:
        """Count what happens inside for a stage, but for what is counted for stages within it."""
        inside = self._open[-1] if self._open else None
        self._count()
        self._open.append(inside if inside is not None and inside[1] else (stage, whole))
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def _count(self) -> None:
        """Give the time since the last call to the stage that is open."""
        wall, cpu = perf_counter(), process_time()
        if self._open:
            stage = self._open[-1][0]
            self.wall_s[stage] = self.wall_s.get(stage, 0.0) + wall - self._since[0]
            self.cpu_s[stage] = self.cpu_s.get(stage, 0.0) + cpu - self._since[1]
        self._since = wall, cpu


@contextmanager
def timed(stages: Sequence[Stage]) -> Iterator[StageClock]:
    """Wrap what the stages name while the context is open, and yield the clock they report to.

    Raises `LookupError` if nothing of a stage exists.
    """
    clock = StageClock()
    with ExitStack() as patched:
        for stage in stages:
            places = [place for target in stage.targets for place in _places(target)]
            if not places:
                raise LookupError(
                    f"stage {stage.name!r}: none of {', '.join(stage.targets)} exists; name what "
                    "does it now"
                )
            for owner, name in places:
                wrapped = _wrapped(getattr(owner, name), stage, clock)
                patched.enter_context(patch.object(owner, name, wrapped))
        yield clock


def _places(target: str) -> list[tuple[Any, str]]:
    """Return where a target is found: the class, or every module that has imported the function."""
    module, _, name = target.partition(":")
    if find_spec(module) is None:
        return []
    owner: Any = import_module(module)
    *classes, last = name.split(".")
    for step in classes:
        owner = getattr(owner, step, None)
    found = getattr(owner, last, None)
    if found is None:
        return []
    if classes:
        return [(owner, last)]
    loaded: Mapping[str, Any] = dict(sys.modules)
    package = module.partition(".")[0]
    return [
        (other, last)
        for name, other in loaded.items()
        if name.partition(".")[0] == package and getattr(other, last, None) is found
    ]


def _wrapped(original: Callable[..., Any], stage: Stage, clock: StageClock) -> Callable[..., Any]:
    def during() -> AbstractContextManager[None]:
        return clock.during(stage.name, whole=stage.whole)

    @wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        with during():
            return original(*args, **kwargs)

    @wraps(original)
    def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
        made = original(*args, **kwargs)
        while True:
            with during():
                try:
                    found = next(made)
                except StopIteration:
                    return
            yield found

    @wraps(original)
    def opened(*args: Any, **kwargs: Any) -> Any:
        return _Ended(original(*args, **kwargs), during)

    if stage.ends:
        return opened
    return steps if isgeneratorfunction(original) else call


class _Ended:
    """A context manager whose end is timed."""

    def __init__(self, inner: Any, during: Callable[[], AbstractContextManager[None]]) -> None:
        self._inner, self._during = inner, during

    def __enter__(self) -> Any:
        return self._inner.__enter__()

    def __exit__(self, *raised: Any) -> Any:
        with self._during():
            return self._inner.__exit__(*raised)
