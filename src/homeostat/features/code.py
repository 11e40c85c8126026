"""The user's own code that the declarations of today hold, by the hash of what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from homeostat.core.errors import HomeostatError
from homeostat.core.hashing import canonical_json, former_source_hash
from homeostat.declare.system import System
from homeostat.declare.views import OnDemand

__all__ = ["Code", "CodeGone"]


class CodeGone(HomeostatError):
    """Code that no declaration of today has."""

    def __init__(self, code: str, what: str) -> None:
        self.why = f"no {what} of today does what code {code[:12]} did"
        self.advice = (
            f"keep the {what} as it was and name it in System(..., kept=[...]), and give the new "
            "one another name"
        )
        super().__init__(f"{self.why}; allowed: the code of then; {self.advice}")


@dataclass(frozen=True, slots=True)
class Code:
    """Functions by their hash, that of an earlier release included, and classes of summaries."""

    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    summaries: Mapping[str, type] = field(default_factory=dict)

    @classmethod
    def of(cls, system: System) -> Code:
        """Return the code of the features and summaries of a system, kept ones included."""
        functions = {former_source_hash(one.function): one.function for one in _on_demand(system)}
        functions |= {one.code: one.function for one in _on_demand(system)}
        used = [a for view in system.views for a in view.aggregations]
        used += [one for one in system.kept if not isinstance(one, OnDemand)]
        summaries = {
            str(dict(a.options)["code"]): type(a.custom) for a in used if a.custom is not None
        }
        return cls(functions, summaries)

    def function(self, code: str) -> Callable[..., Any]:
        """Return the function with a hash; raise `CodeGone` if there is none."""
        if code not in self.functions:
            raise CodeGone(code, "on-demand feature")
        return self.functions[code]

    def summary(self, code: str, body: Mapping[str, Any]) -> Any:
        """Return a summary with the fields of `body`; raise `CodeGone` if its class is gone."""
        kind = self.summaries.get(code)
        if kind is None or kind.__name__ != body["type"]:
            raise CodeGone(code, "summary")
        made = kind(**{key: _tuples(value) for key, value in body.items() if key != "type"})
        if canonical_json(made) != canonical_json(body):
            raise CodeGone(code, "summary")
        return made


def _on_demand(system: System) -> Iterator[OnDemand]:
    waiting: list[object] = [f for model in system.models for f in model.features]
    waiting += system.kept
    while waiting:
        feature = waiting.pop()
        if isinstance(feature, OnDemand):
            yield feature
            waiting += feature.inputs


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
