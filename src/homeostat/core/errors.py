"""Errors are part of the interface: where, what was found, what is allowed, what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

__all__ = [
    "DeclarationError",
    "HomeostatError",
    "MissingExtra",
    "SystemInvalid",
    "UnknownName",
    "did_you_mean",
    "text_of",
]


class HomeostatError(Exception):
    """Root of all we raise; `retryable` is for machines, the text for people."""

    retryable = False


_FIRST = 3
"""So many errors of a group are told."""


def text_of(error: BaseException) -> str:
    """Return an error's text as it can be written anywhere, whatever the user's code put into it.

    That of a group holds the first errors in it.

    >>> text_of(ValueError("no \\ud800")) == "no " + chr(92) + "ud800"
    True
    >>> text_of(ExceptionGroup("two", [ValueError("a"), KeyError("b")]))
    "two (2 sub-exceptions): ValueError: a; KeyError: 'b'"
    """
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001 - the method is the user's code
        text = f"its text cannot be made: {type(broken).__name__}"
    if isinstance(error, BaseExceptionGroup):
        first = [f"{type(one).__name__}: {text_of(one)}" for one in error.exceptions[:_FIRST]]
        more = len(error.exceptions) - len(first)
        text += ": " + "; ".join(first + [f"and {more} more"] * (more > 0))
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


class DeclarationError(HomeostatError, ValueError):
    """A declaration contradicts itself or another one.

    >>> str(DeclarationError("label 'late'", "delay is '-1h'", "at least 0", "write '12h'"))
    "label 'late': delay is '-1h'; allowed: at least 0; write '12h'."
    """

    def __init__(self, where: str, found: str, allowed: str, next_step: str) -> None:
        self.where, self.found, self.allowed, self.next_step = where, found, allowed, next_step
        super().__init__(f"{where}: {found}; allowed: {allowed}; {next_step}.")


class SystemInvalid(HomeostatError, ValueError):
    """Every mistake of a system, found in one pass."""

    def __init__(self, name: str, mistakes: Iterable[HomeostatError]) -> None:
        self.mistakes = tuple(mistakes)
        listed = "\n".join(f"  - {mistake}" for mistake in self.mistakes)
        super().__init__(f"system {name!r}: {len(self.mistakes)} mistake(s):\n{listed}")


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or an empty text.

    >>> did_you_mean("amuont", ["country", "amount"])
    " Did you mean 'amount'?"
    """
    near = get_close_matches(got, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class UnknownName(HomeostatError, LookupError):
    """A name that nothing declares."""

    def __init__(self, kind: str, got: str, known: Sequence[str], where: str) -> None:
        self.kind, self.got, self.known, self.where = kind, got, tuple(known), where
        listed = ", ".join(sorted(known)) or "none are declared"
        super().__init__(
            f"{where}: no {kind} named {got!r}.{did_you_mean(got, known)} Known: {listed}."
        )


class MissingExtra(HomeostatError, ImportError):
    """An optional package is needed and is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional package: pip install 'homeostat[{extra}]'")
