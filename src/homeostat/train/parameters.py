"""Names of an estimator's parameters: which there are, and which are several names of one.

A class without `**kwargs` spells its names out. LightGBM takes every keyword, ignores what it does
not know, and warns at most where two names of one parameter are given, so its own table of names
and aliases is asked. Of other classes with `**kwargs` only the named parameters can be known: a
name that is nearly one of them is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from homeostat.core.errors import HomeostatError

__all__ = [
    "EstimatorRefused", "check_parameters", "first_names", "is_lightgbm", "lightgbm_names",
    "parameter_mistakes",
]  # fmt: skip

_NEARLY = 0.8
"""From this likeness on (`difflib`) an unknown name is taken for a misspelt one."""


class EstimatorRefused(HomeostatError, ValueError):
    """A declared estimator that cannot be made."""


def check_parameters(kind: Callable[..., Any], names: Iterable[str], where: str) -> None:
    """Raise the first of the `parameter_mistakes`."""
    for mistake in parameter_mistakes(kind, names, where):
        raise mistake


def parameter_mistakes(
    kind: Callable[..., Any], names: Iterable[str], where: str
) -> Iterator[EstimatorRefused]:
    """Yield what is wrong with names: unknown ones, and several of one parameter.

    Args:
        kind: the estimator's class, or a function that makes one.
        names: the declared parameters.
        where: what the errors call the declaration.
    """
    declared, named, takes_any = sorted(set(names)), _named(kind), _takes_any(kind)
    of_lightgbm = is_lightgbm(kind)
    known = named | (frozenset(_aliases()) if of_lightgbm else frozenset())
    for name in declared:
        if name in known:
            continue
        strict = of_lightgbm or not takes_any
        near = get_close_matches(name, sorted(known), n=1, cutoff=0.6 if strict else _NEARLY)
        if not (strict or near):
            continue
        hint = f" Did you mean {near[0]!r}?" if near else ""
        allowed = "LightGBM's parameters and their aliases"
        if not of_lightgbm:
            allowed = ", ".join(sorted(known)) or f"none: {_name(kind)} has no parameters"
        yield EstimatorRefused(
            f"{where}: no parameter {name!r}.{hint} allowed: {allowed}; correct the declaration."
        )
    if not of_lightgbm:
        return
    groups: dict[str, list[str]] = {}
    for name in declared:
        groups.setdefault(_aliases().get(name, name), []).append(name)
    for several in groups.values():
        if len(several) > 1:
            yield EstimatorRefused(
                f"{where}: {' and '.join(map(repr, several))} are names of one parameter; "
                f"allowed: one of them; drop the others."
            )


def is_lightgbm(kind: Callable[..., Any]) -> bool:
    """Return whether a class is one of LightGBM's, or made from one."""
    bases = kind.__mro__ if isinstance(kind, type) else ()
    return any(base.__module__.partition(".")[0] == "lightgbm" for base in bases)


def first_names(parameters: Iterable[str]) -> dict[str, str]:
    """Return by name of a parameter the one that LightGBM's library lists it under."""
    return {name: _aliases().get(name, name) for name in parameters}


def lightgbm_names(kind: Callable[..., Any], parameters: Mapping[str, object]) -> dict[str, object]:
    """Return parameters under the names that LightGBM's class spells out, else the library's.

    Under another name of the same parameter, the class's default may win over what is declared.
    """
    own = {_aliases()[name]: name for name in sorted(_named(kind)) if name in _aliases()}
    first = first_names(parameters)
    return {own.get(first[name], first[name]): value for name, value in parameters.items()}


def _name(kind: Callable[..., Any]) -> str:
    return getattr(kind, "__name__", str(kind))


def _takes_any(kind: Callable[..., Any]) -> bool:
    return any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD
        for parameter in inspect.signature(kind).parameters.values()
    )


def _named(kind: Callable[..., Any]) -> frozenset[str]:
    """Return the names that a class, and with `**kwargs` those it is made from, spell out."""
    makers = [kind]
    if isinstance(kind, type) and _takes_any(kind):
        makers = [
            base.__init__  # type: ignore[misc]
            for base in kind.__mro__
            if "__init__" in vars(base) and base is not object
        ]
    found = {
        parameter.name
        for maker in makers
        for parameter in inspect.signature(maker).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    return frozenset(found - {"self"})


@cache
def _aliases() -> dict[str, str]:
    """Return every name that LightGBM itself reads, with the one its library lists it under."""
    from lightgbm.basic import _ConfigAliases

    aliases: dict[str, list[str]] = _ConfigAliases._get_all_param_aliases()
    return {name: first for first, others in aliases.items() for name in (first, *others)}
