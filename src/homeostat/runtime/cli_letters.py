"""Commands on the dead letters: records that are no events, and what to do about them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from homeostat.core.errors import HomeostatError
from homeostat.runtime.cli_shared import BESIDE, Group, session
from homeostat.runtime.cli_types import SETTING, typed

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.declare.schema import EventSchema
    from homeostat.declare.sources import EventSource
    from homeostat.ingest.deadletters import Quarantined

__all__ = ["dead_letters"]

HIDDEN = "***"


class RepairRefused(HomeostatError):
    """A repair that would be refused again."""

    def __init__(self, source: str, offset: int, found: str) -> None:
        super().__init__(
            f"dead letter {offset} of {source!r}: the repaired payload is still no event: {found}; "
            "allowed: one JSON object with the declared fields; repair it again"
        )


@click.group("dead-letters", cls=Group, short_help="Records that are no events.")
def dead_letters() -> None:
    """List, show, repair, replay or drop records that are no events."""


@dead_letters.command("list")
@click.option("--source", help="Of this source only.")
@click.option("--reason", help="With this reason only, such as missing_field:amount.")
@click.option("--state", default="open", show_default=True, help="open, repaired, replayed, "
              "dropped or all.")  # fmt: skip
@click.option("--limit", default=20, show_default=True, help="Show so many letters at most.")
def list_letters(source: str | None, reason: str | None, state: str, limit: int) -> None:
    """Count dead letters by source and reason, and list the first of them."""
    wanted = None if state == "all" else state
    here = session()
    with here.home() as (system, home):
        if source is not None:
            system.source(source)
        numbers = {
            (s, r): n
            for (s, r), n in home.letters.counts(wanted).items()
            if source in (None, s) and reason in (None, r)
        }
        found = home.letters.list(source, reason, wanted, limit)
    counts = [{"source": s, "reason": r, "letters": n} for (s, r), n in numbers.items()]
    body = {"counts": counts, "letters": [_row(letter) for letter in found]}

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        if not counts:
            to.print(f"no {'' if state == 'all' else state + ' '}dead letters", style="green")
            return
        table(to, counts)
        if to.is_terminal or limit:
            to.print()
        table(to, [_row(letter) for letter in found], wide=("detail",))
        total = sum(numbers.values())
        if total > len(found):
            to.print(f"{len(found)} of {total:,}; --limit shows more", style="dim")

    here.answer(body, show)


def _row(found: Quarantined) -> dict[str, Any]:
    from homeostat.runtime.cli_output import moment

    letter = found.letter
    return {
        "source": letter.source,
        "offset": letter.offset,
        "known": moment(letter.known),
        "reason": letter.reason,
        "state": found.state,
        "detail": letter.detail,
    }


@dead_letters.command("show")
@click.argument("source")
@click.argument("offset", type=int)
@click.option("--reveal", is_flag=True, help="Show fields that are tagged Personal.")
def show_letter(source: str, offset: int, reveal: bool) -> None:
    """Show one dead letter: the record as it was received, and what is wrong with it."""
    here = session()
    with here.home() as (system, home):
        schema = system.source(source).schema
        found = home.letters.show(source, offset)
    body = {
        **_row(found),
        "payload": shown_payload(found.letter.payload, schema, reveal=reveal),
        "repaired": None
        if found.repaired is None
        else shown_payload(found.repaired, schema, reveal=reveal),
        "replayed_as": found.replayed_as,
    }

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import cell

        for name, value in body.items():
            if value is not None:
                text = cell(value, piped=True) if name != "payload" else str(value)
                to.print(f"{name.replace('_', ' '):<12} {text}")

    here.answer(body, show)


def shown_payload(payload: bytes, schema: EventSchema, *, reveal: bool) -> str:
    """Return a payload as text; personal fields are masked unless they are to be revealed."""
    text = payload.decode("utf-8", "backslashreplace")
    hidden = {field.name for field in schema.fields if field.is_personal}
    if reveal or not hidden:
        return text
    try:
        found = json.loads(payload)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return f"{len(payload)} bytes that may hold personal fields; --reveal shows them"
    return json.dumps(masked(found, hidden), ensure_ascii=False)


def masked(fields: Mapping[str, Any], hidden: set[str]) -> dict[str, Any]:
    """Return fields with the hidden ones masked; missing ones stay missing."""
    return {k: HIDDEN if k in hidden and v is not None else v for k, v in fields.items()}


@dead_letters.command("repair")
@click.argument("source")
@click.argument("offset", type=int)
@click.option("--set", "changes", type=SETTING, multiple=True, help="Set a field: --set amount=3.")
@click.option("--payload", metavar="JSON", help="The whole record as it should be; - reads it.")
def repair_letter(
    source: str, offset: int, changes: tuple[tuple[str, str], ...], payload: str | None
) -> None:
    """Put a record right; `dead-letters replay` then sends it again."""
    if bool(changes) == bool(payload):
        raise click.UsageError("give either --set FIELD=VALUE, once or more, or --payload JSON")
    here = session()
    with here.home() as (system, home):
        declared = system.source(source)
        letter = home.letters.show(source, offset).letter
        if payload is None:
            made = _changed(declared, letter.offset, letter.payload, dict(changes))
        else:
            text = sys.stdin.read() if payload == "-" else payload
            made = text.strip().encode()
        _check(declared, offset, made)
        home.letters.repair(source, offset, made)
    here.answer(
        {"source": source, "offset": offset, "state": "repaired"},
        lambda to: to.print(
            f"dead letter {offset} of {source!r} is repaired; send it again with "
            f"`homeostat dead-letters replay {source}`",
        ),
    )


def _changed(source: EventSource, offset: int, payload: bytes, changes: Mapping[str, str]) -> bytes:
    try:
        found = json.loads(payload)
    except ValueError as malformed:
        raise RepairRefused(source.name, offset, f"malformed: {malformed}") from malformed
    if not isinstance(found, dict):
        raise RepairRefused(source.name, offset, "malformed: it is no object")
    for name, text in changes.items():
        kind = source.schema.field(name, f"event source {source.name!r}").kind
        found[name] = typed(kind, text)
    return json.dumps(found, ensure_ascii=False).encode()


def _check(source: EventSource, offset: int, payload: bytes) -> None:
    from homeostat.ingest.decode import PayloadDecoder

    faults = PayloadDecoder(source.schema).decode([payload]).faults
    if faults:
        raise RepairRefused(source.name, offset, f"{faults[0].reason}: {faults[0].detail}")


@dead_letters.command("replay")
@click.argument("source", required=False)
@click.option("--unrepaired", is_flag=True, help="Open letters too, as they are: for after a "
              "schema or clock was put right.")  # fmt: skip
def replay_letters(source: str | None, unrepaired: bool) -> None:
    """Send repaired records again: they become known now, and keep their own event time."""
    here = session()
    with here.taking() as taking:
        if source is not None:
            taking.home.system.source(source)
        for declared in taking.home.system.sources:
            if source in (None, declared.name):
                taking.require_present(declared.name)
        sent = taking.home.letters.replay(
            taking.home.log, taking.now, source, unrepaired=unrepaired
        )
        counts = taking.fold()
    rows = [
        {
            "source": name,
            "accepted": found.accepted,
            "duplicates": found.duplicates,
            "too_late": found.too_late,
            "quarantined": found.rejected,
        }
        for name, found in counts.items()
        if found.total
    ]

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        to.print(f"sent {sent} letter{'' if sent == 1 else 's'} again")
        table(to, rows)

    here.answer({"sent": sent, "folded": taking.folds, "sources": rows}, show)
    if not taking.folds:
        here.note(BESIDE)


@dead_letters.command("drop")
@click.argument("source")
@click.argument("offset", type=int)
def drop_letter(source: str, offset: int) -> None:
    """Close a dead letter for good; its bytes stay in the home."""
    here = session()
    with here.home() as (system, home):
        system.source(source)
        home.letters.drop(source, offset)
    here.answer(
        {"source": source, "offset": offset, "state": "dropped"},
        lambda to: to.print(f"dead letter {offset} of {source!r} is dropped"),
    )
