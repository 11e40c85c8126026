"""Instants, spans and settings as they are typed on a command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from homeostat.core.clock import to_micros
from homeostat.core.durations import DurationInvalid, Micros, parse_duration

__all__ = ["INSTANT", "SETTING", "SPAN", "typed"]


class _Instant(click.ParamType[Micros]):
    """An instant: ISO 8601, in UTC unless it says otherwise."""

    name = "instant"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "INSTANT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Micros:
        if isinstance(value, int):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is no instant; write 2024-06-14 or 2024-06-14T05:00:00+02:00 "
                "(UTC where no zone is given)",
                param,
                ctx,
            )
        return to_micros(found if found.tzinfo else found.replace(tzinfo=UTC))


class _Span(click.ParamType[Micros]):
    """A span of time, as in declarations."""

    name = "span"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "SPAN"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Micros:
        if isinstance(value, int):
            return value
        try:
            found = parse_duration(value)
        except DurationInvalid as wrong:
            self.fail(str(wrong), param, ctx)
        if not found:
            self.fail(f"{value!r} is no time at all; write '10m', '12h' or '1d'", param, ctx)
        return found


class _Setting(click.ParamType[tuple[str, str]]):
    """A pair name=value."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return str(value[0]), str(value[1])
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r}; write NAME=VALUE, as in carrier=UA", param, ctx)
        return name, text


INSTANT, SPAN, SETTING = _Instant(), _Span(), _Setting()


def typed(kind: str, text: str) -> object:
    """Return a text as a field of a kind would hold it; as it is where it cannot.

    >>> typed("integer", "3"), typed("boolean", "true"), typed("string", "3"), typed("float", "x")
    (3, True, '3', 'x')
    """
    if text in ("", "null", "None"):
        return None
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return {"integer": int, "float": float}.get(kind, str)(text)
    except ValueError:
        return text
