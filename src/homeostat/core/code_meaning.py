"""What a function does: its source, and what it takes from around it in the user's own modules.

Names that its code uses are looked up in its module and closure. Followed are constants,
containers, functions, classes, partials, and objects of classes, as they are then, also those of
other modules, where these belong to the user: neither Python's own nor an installed package. Data
of Python's own types and of the packages `DATA` (an array, a date, a pattern, a vectorized
function) count by what a copy of them is made of. Of a module only the names that the code uses
count. What is found while it runs (by `getattr`, `eval`, in a file), generators of chance, and
objects of other packages (a client, a connection) are not seen.
"""

from __future__ import annotations

import ast
import copyreg
import dis
import importlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from homeostat.core.errors import HomeostatError

__all__ = ["former_meaning", "meaning"]

DATA = frozenset(("numpy", "pandas", "polars", "pyarrow", "scipy", "sklearn"))
"""Installed packages whose objects are data: the state of others may differ in every process."""

_NOTHING = object()
_INSTALLED = frozenset(("site-packages", "dist-packages"))


def meaning(function: Callable[..., object], seen: set[object] | None = None) -> dict[str, object]:
    """Return the source and the surroundings of a function, as values that have a content hash.

    Args:
        function: a function, or a class.
        seen: what was met on the way, which stops functions that call each other.
    """
    seen, text = set() if seen is None else seen, _text(function)
    seen.add(id(function))
    if not isinstance(function, FunctionType):
        return {"text": text}
    found: dict[str, object] = {"text": text, "around": _around(function, seen)}
    defaults = list(_defaults(function, text, seen))
    return {**found, "defaults": defaults} if defaults else found


def former_meaning(
    function: Callable[..., object], seen: set[str] | None = None
) -> dict[str, object]:
    """Return what a function was hashed by until code of other modules was followed.

    That is its source, and the constants and functions of its own module and closure. Packages of
    then have such hashes.
    """
    seen, text = set() if seen is None else seen, _text(function)
    if not isinstance(function, FunctionType):
        return {"text": text}
    seen.add(function.__qualname__)
    around: dict[str, object] = {}
    for name, value in sorted(_named(function).items()):
        if _is_constant(value):
            around[name] = value
        elif (
            isinstance(value, FunctionType)
            and value.__module__ == function.__module__
            and value.__qualname__ not in seen
        ):
            around[name] = former_meaning(value, seen)
    return {"text": text, "around": around}


def _text(function: Callable[..., object]) -> str:
    """Return the source of a function or class, or what it is compiled to where none is there."""
    code = getattr(function, "__code__", None)
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        if not isinstance(code, CodeType):
            raise HomeostatError(
                f"the source of {function!r} cannot be read; allowed: functions written in Python; "
                "wrap it in one, as in def f(x): return g(x)"
            ) from None
        return repr([(c.co_code, c.co_names, _constants(c)) for c in _codes(code)])


def _named(function: FunctionType) -> dict[str, object]:
    """Return what the names stand for that a function takes from its module and closure."""
    names = {name for c in _codes(function.__code__) for name in c.co_names}
    around = {name: function.__globals__[name] for name in names & function.__globals__.keys()}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return around | {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}


def _around(function: FunctionType, seen: set[object]) -> dict[str, object]:
    """Return what a function takes from its module and closure, by name."""
    names = {name for c in _codes(function.__code__) for name in c.co_names}
    inner = function.__code__.co_freevars
    around = _named(function)
    around |= {name: each for name, each in _imported(function).items() if name not in inner}
    taken = {name: _taken(around[name], function, names, seen) for name in sorted(around)}
    return {name: value for name, value in taken.items() if value is not _NOTHING}


def _taken(value: Any, user: FunctionType, names: set[str], seen: set[object]) -> object:
    """Return what a value means to the function that uses it, `_NOTHING` if it is not followed."""
    if _is_constant(value):
        return value
    value = dict(value) if isinstance(value, MappingProxyType) else value
    if isinstance(value, list | dict | set | tuple | frozenset):
        if _is_plain(value, 5):
            return value or _NOTHING
        return _inside(value, value, user, names, seen)
    if isinstance(value, partial):
        given = {str(place): each for place, each in enumerate(value.args)} | value.keywords
        return _each({"func": value.func, **given}, user, names, seen)
    if isinstance(value, MethodType):
        return _each({"func": value.__func__, "self": value.__self__}, user, names, seen)
    for inner in ("__wrapped__", "py_func", "function"):
        # a cache, a compiled function, an on-demand feature: what they hold is called
        held = None if isinstance(value, FunctionType | type) else getattr(value, inner, None)
        if isinstance(held, FunctionType):
            value = held
    if isinstance(value, ModuleType):
        key = ("module", id(value), id(user))
        if key in seen or not _is_users(value.__name__):
            return _NOTHING
        seen.add(key)
        used = {name: vars(value)[name] for name in names & vars(value).keys()}
        return _each(used, user, names, seen)
    kind = value if isinstance(value, FunctionType | type) else type(value)
    if not (kind.__module__ == user.__module__ or _is_users(kind.__module__)):
        if kind is value:
            return _NOTHING if value.__name__ in names else {"name": value.__qualname__}
        return _copied(value, user, names, seen)
    if isinstance(kind, FunctionType):
        return _NOTHING if id(kind) in seen else meaning(kind, seen)
    found = {} if id(kind) in seen else _class(kind, seen)
    state = {} if kind is value else _state(value, user, names, seen)
    return {**found, **({"state": state} if state else {})} or _NOTHING


def _state(
    value: object, user: FunctionType, names: set[str], seen: set[object]
) -> dict[str, object]:
    """Return what the attributes of an object of the user's hold."""
    slots = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())}
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    held |= getattr(value, "__dict__", {})
    plain = {name: each for name, each in held.items() if _is_plain(each, 5)}
    others = {name: each for name, each in held.items() if name not in plain}
    found = _inside(value, others, user, names, seen) if others else {}
    return {**plain, **found} if isinstance(found, dict) else plain


def _inside(
    value: object, parts: Any, user: FunctionType, names: set[str], seen: set[object]
) -> object:
    """Return what the parts of a value mean, unless the value is a part of itself."""
    key = ("inside", id(value))
    if key in seen:
        return _NOTHING
    seen.add(key)
    try:
        if isinstance(parts, dict):
            return _each(parts, user, names, seen) or _NOTHING
        taken = [_taken(each, user, names, seen) for each in parts]
        found = [each for each in taken if each is not _NOTHING]
        found = sorted(found, key=repr) if isinstance(parts, set | frozenset) else found
        return found or _NOTHING
    finally:
        seen.remove(key)


def _copied(value: Any, user: FunctionType, names: set[str], seen: set[object]) -> object:
    """Return what a copy of data is made of, by what Python's `copy` and `pickle` would do."""
    kind: Any = type(value)
    top, _, rest = kind.__module__.partition(".")
    registered: Any = copyreg.dispatch_table.get(kind)
    is_any = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
    says_itself = registered is not None or not is_any
    is_data = top in DATA or (top in sys.stdlib_module_names and says_itself)
    if not is_data or "random" in (top, rest.partition(".")[0]):
        return _NOTHING
    try:
        made = value.__reduce_ex__(4) if registered is None else registered(value)
    except Exception:  # noqa: BLE001 -- whatever is raised says that it cannot be copied
        return _NOTHING
    if isinstance(made, str):  # a function of a package
        return _NOTHING if made in names else {"name": made}
    maker, *parts = made
    parts = [list(each) if isinstance(each, Iterator) else each for each in parts]
    inside = _inside(value, parts, user, names, seen)
    return {"made": maker.__qualname__, "of": None if inside is _NOTHING else inside}


def _each(
    values: dict[Any, Any], user: FunctionType, names: set[str], seen: set[object]
) -> dict[str, object]:
    taken = {str(name): _taken(values[name], user, names, seen) for name in sorted(values, key=str)}
    return {name: value for name, value in taken.items() if value is not _NOTHING}


def _class(kind: type, seen: set[object]) -> dict[str, object]:
    """Return what a class of the user does: its source, its methods' surroundings, its bases."""
    seen.add(id(kind))
    found: dict[str, object] = {}
    try:
        found["text"] = inspect.getsource(kind)
    except (OSError, TypeError):
        found["text"] = ""  # without a file: its methods' code says it
    for name, member in sorted(vars(kind).items()):
        made = member.fget if isinstance(member, property) else member
        made = getattr(made, "__func__", getattr(made, "func", made))
        if not isinstance(made, FunctionType) or id(made) in seen:
            continue
        if found["text"] and made.__code__.co_filename.startswith("<"):
            continue  # written by a decorator from what the source says
        seen.add(id(made))
        around = _around(made, seen) if found["text"] else meaning(made, seen)
        if around:
            found[name] = around
    bases = [base for base in kind.__bases__ if id(base) not in seen and _is_users(base.__module__)]
    return {**found, "bases": [_class(base, seen) for base in bases]} if bases else found


def _defaults(function: FunctionType, text: str, seen: set[object]) -> Iterator[object]:
    """Yield the default arguments that the source does not spell out."""
    values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if not values:
        return
    try:
        (node,) = ast.parse(textwrap.dedent(text)).body
    except (SyntaxError, ValueError):  # a piece of a line: a lambda among other things
        node = ast.Pass()
    nodes: list[ast.expr | None] = [None] * len(values)
    if isinstance(node, ast.FunctionDef):
        spelt = [*node.args.defaults, *(each for each in node.args.kw_defaults if each)]
        nodes = [*spelt] if len(spelt) == len(values) else nodes
    for each, value in zip(nodes, values, strict=True):
        if each is None or not _is_literal(each):
            taken = _taken(value, function, set(), seen)
            if taken is not _NOTHING:
                yield taken


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError):
        return False
    return True


def _imported(function: FunctionType) -> dict[str, ModuleType]:
    """Return the user's modules that a function imports when it is called, by name."""
    package = str(function.__globals__.get("__package__") or "")
    found: dict[str, ModuleType] = {}
    for code in _codes(function.__code__):
        for step in dis.get_instructions(code):
            if step.opname != "IMPORT_NAME":
                continue
            for name in filter(None, (step.argval, f"{package}.{step.argval}" if package else "")):
                module = _module(name)
                if module is not None and _is_users(name):
                    found[name] = module
    return found


def _module(name: str) -> ModuleType | None:
    """Return a module of the user by name, imported if it is not yet; None for any other."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not _is_outside(name, spec.origin):
            return None
        return importlib.import_module(name)
    except (ImportError, ValueError):
        return None


def _is_users(name: str | None) -> bool:
    """Return whether a module belongs to the user."""
    module = sys.modules.get(name or "")
    if module is None or name is None:
        return False
    if name == "__main__":
        return True
    places: Iterable[str] = getattr(module, "__path__", None) or ()
    place = getattr(module, "__file__", None) or next(iter(places), None)
    return place is not None and _is_outside(name, place)


def _is_outside(name: str, place: str) -> bool:
    top = name.partition(".")[0]
    is_known = top == "homeostat" or top in sys.stdlib_module_names
    return not is_known and not _INSTALLED & set(Path(place).parts)


def _is_constant(value: object) -> bool:
    if isinstance(value, tuple | frozenset):
        return all(map(_is_constant, value))
    return value is None or isinstance(value, bool | int | float | str | bytes)


def _is_plain(value: object, deep: int) -> bool:
    """Return whether a value is made of constants only, in at most so many containers."""
    if isinstance(value, dict):
        return deep > 0 and all(
            _is_constant(k) and _is_plain(v, deep - 1) for k, v in value.items()
        )
    if isinstance(value, list | set | tuple | frozenset):
        return deep > 0 and all(_is_plain(each, deep - 1) for each in value)
    return _is_constant(value)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function and of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _constants(code: CodeType) -> list[str]:
    return [repr(value) for value in code.co_consts if not isinstance(value, CodeType)]


def _is_filled(cell: CellType) -> bool:
    try:
        return isinstance(cell.cell_contents, object)
    except ValueError:  # a name that its function has not given a value yet
        return False
