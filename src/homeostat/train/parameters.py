"""Names of an estimator's parameters, checked where its class would take any.

A class without `**kwargs` refuses unknown names itself. LightGBM takes every keyword and ignores
what it does not know, so its own table of names and aliases is asked. Of other classes with
`**kwargs` only the named parameters can be known: a name that is nearly one of them is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from difflib import get_close_matches

from homeostat.core.errors import HomeostatError

__all__ = ["EstimatorRefused", "check_parameters"]

_NEARLY = 0.8
"""From this likeness on (`difflib`) an unknown name is taken for a misspelt one."""


class EstimatorRefused(HomeostatError, ValueError):
    """A declared estimator that cannot be made."""


def check_parameters(kind: type, names: Iterable[str], where: str) -> None:
    """Raise `EstimatorRefused` for a name that a class would take and not use.

    Args:
        kind: the estimator's class.
        names: the declared parameters.
        where: what the error calls the declaration.
    """
    if not _takes_any(kind):
        return
    is_lightgbm = any(base.__module__.partition(".")[0] == "lightgbm" for base in kind.__mro__)
    known = _named(kind) | (_of_lightgbm() if is_lightgbm else frozenset())
    for name in sorted(set(names) - known):
        cutoff = 0.6 if is_lightgbm else _NEARLY
        near = next(iter(get_close_matches(name, sorted(known), n=1, cutoff=cutoff)), None)
        if is_lightgbm:
            allowed = "LightGBM's parameters and their aliases"
        elif near is not None:
            allowed = f"the parameters of {kind.__name__}"
        else:
            continue
        hint = f" Did you mean {near!r}?" if near else ""
        raise EstimatorRefused(
            f"{where}: no parameter {name!r}.{hint} allowed: {allowed}; correct the declaration."
        )


def _takes_any(kind: type) -> bool:
    return any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD
        for parameter in inspect.signature(kind).parameters.values()
    )


def _named(kind: type) -> frozenset[str]:
    """Return the names that a class, and the classes it is made from, spell out."""
    found: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        found.update(
            parameter.name
            for parameter in inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        )
    return frozenset(found - {"self"})


def _of_lightgbm() -> frozenset[str]:
    """Return every name that LightGBM itself reads, as its library lists them."""
    from lightgbm.basic import _ConfigAliases

    aliases: dict[str, list[str]] = _ConfigAliases._get_all_param_aliases()
    return frozenset(aliases) | {name for others in aliases.values() for name in others}
