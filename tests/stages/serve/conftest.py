"""Benches for the tests of serving."""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from homeostat.serve.routing import Route
from homeostat.testing.payments import Bench, arm, payments


class MakesBench(Protocol):
    """Makes a bench; `declared` changes the deployment."""

    def __call__(
        self, route: Route | None = None, declared: dict[str, Any] | None = None, **parts: Any
    ) -> Bench: ...


@pytest.fixture
def bench() -> MakesBench:
    """Return a maker of benches."""

    def make(
        route: Route | None = None, declared: dict[str, Any] | None = None, **parts: Any
    ) -> Bench:
        chosen = Route(champion=arm(0.25)) if route is None else route
        return Bench(payments(**(declared or {})), chosen, **parts)

    return make
