"""Commands on the events: take them in, and ask about them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homeostat.runtime.cli_shared import BESIDE, FOUND, Command, session
from homeostat.runtime.cli_types import INSTANT, SETTING

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from homeostat.core.durations import Micros
    from homeostat.runtime.cli_shared import Taking

__all__ = ["ingest", "sql"]

_BARE_AT = re.compile(r'(?<!")\bat\b(?!")', re.IGNORECASE)

ROWS = 200
"""At most this many rows of an answer are printed for a person."""


@click.command(cls=Command, short_help="Take events from files, or from a topic.")
@click.argument("source")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--known-at", type=INSTANT, help="All of it became known at this instant.")
@click.option("--known-column", metavar="NAME", help="The column that says when a row was known.")
@click.option("--received-now", is_flag=True, help="All of it becomes known now.")
@click.option("--kafka", is_flag=True, help="Take the source's topic, up to its present end.")
@click.pass_context
def ingest(
    context: click.Context,
    source: str,
    files: tuple[Path, ...],
    known_at: Micros | None,
    known_column: str | None,
    received_now: bool,
    kafka: bool,
) -> None:
    """Take events from FILES into the log of SOURCE, and fold them.

    CSV, JSON lines, Parquet and Arrow files, also compressed. Without an option they are history:
    each row was known when the source's declaration says (its known_time field, or event time
    plus delay). What is no event goes to the dead letters; events seen before are dropped. An
    import that was cut off goes on where it was when the same command is given again.

    With --kafka the events come from the topic that homeostat.toml names, and become known now.

    Exit status: 0, or 3 if records were quarantined.
    """
    said = sum([known_at is not None, known_column is not None, received_now])
    if bool(files) == kafka:
        raise click.UsageError("give one or more FILES, or --kafka")
    if kafka and said:
        raise click.UsageError("what comes from a topic is known when it is received")
    if said > 1:
        raise click.UsageError("give one of --known-at, --known-column and --received-now")
    from homeostat.runtime.consuming import unfolded

    here = session()
    with here.taking(new=True) as taking:
        if received_now or kafka:
            taking.require_present(source)
        known = taking.now if received_now else known_column or known_at
        rows = [_take(taking, source, path, known) for path in files]
        if kafka:
            rows = [_take_topic(taking, source)]
        waiting = unfolded(taking.home, source) if taking.folds else 0
        reasons = {r: n for (s, r), n in taking.home.letters.counts("open").items() if s == source}
    body = {
        "source": source, "files": rows, "folded": taking.folds, "waiting": waiting,
        "dead_letters": reasons,
    }  # fmt: skip

    def show(to: Console) -> None:
        from homeostat.runtime.cli_output import table

        table(to, [{k: v for k, v in row.items() if k not in ("raised", "notes")} for row in rows])

    here.answer(body, show)
    for row in rows:
        for note in row["notes"]:
            here.note(f"{row['file']}: {note}")
    raised = sum(row["raised"] for row in rows)
    if raised:
        here.note(
            f"{raised:,} records are older than what {source!r} already knew: they count as known "
            "at its last known instant. Ingest older files first."
        )
    if any(row["quarantined"] for row in rows):
        here.note(f"see why: homeostat dead-letters list --source {source}")
    if waiting:
        here.note(f"{waiting:,} records are known after this home's present, and wait for it")
    if not taking.folds:
        here.note(BESIDE)
    context.exit(FOUND if any(row["quarantined"] for row in rows) else 0)


def _take(taking: Taking, source: str, path: Path, known: Micros | str | None) -> dict[str, Any]:
    """Bring one file into the log, fold it, and return what became of its records."""
    from homeostat.ingest.imports import import_of
    from homeostat.runtime.timeline import latest_known

    declared, log = taking.home.system.source(source), taking.home.log
    records = raised = 0
    notes: list[str] = []
    last, latest = log.end(source).last_known, latest_known(taking.now)
    for instants, payloads, steps in import_of(declared, path, known, log, latest, notes.append):
        if last is not None:
            raised += int((instants < last).sum())
        log.append(source, instants, payloads, steps)
        records += len(payloads)
    counts = _folded(taking, source)
    return {"file": str(path), "records": records, **counts, "raised": raised, "notes": notes}


def _take_topic(taking: Taking, source: str) -> dict[str, Any]:
    """Bring a topic into the log up to its present end, fold it, and return what became of it."""
    from homeostat.core.clock import ManualClock
    from homeostat.runtime.consuming import drain_topic
    from homeostat.runtime.profile import load_profile

    here = session()
    kafka, clock = load_profile(here.path, taking.home.system).kafka, ManualClock(taking.now)
    records = drain_topic(kafka, source, taking.home, clock, here.note)
    counts = _folded(taking, source)
    return {"file": "kafka", "records": records, **counts, "raised": 0, "notes": []}


def _folded(taking: Taking, source: str) -> dict[str, int | None]:
    """Fold what was appended; return what became of it, None where another process folds."""
    counts = taking.fold().get(source)
    return {
        "accepted": None if counts is None else counts.accepted,
        "duplicates": None if counts is None else counts.duplicates,
        "too_late": None if counts is None else counts.too_late,
        "quarantined": None if counts is None else counts.rejected,
    }


@click.command(cls=Command, short_help="Ask the lake: events, predictions and decisions.")
@click.argument("query")
@click.option("--csv", is_flag=True, help="Print the answer as CSV.")
@click.option(
    "--parquet",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the answer to this Parquet file.",
)
@click.option(
    "--param", "params", type=SETTING, multiple=True, help="The value of $NAME: --param NAME=VALUE."
)
def sql(query: str, csv: bool, parquet: Path | None, params: tuple[tuple[str, str], ...]) -> None:
    """Answer a SELECT over the lake: a table per source, and predictions_MODEL.

    Beside the lake there are decisions, metrics (what each version scored at the gates) and
    dead_letters.

    The lake holds what was committed at the loop's last step. SOURCE_known_at(instant) is a table
    as it was known at an instant: SELECT * FROM orders_known_at(TIMESTAMPTZ '2024-06-14').
    The column "at" stands in quotes. QUERY may be - to read it from standard input.
    """
    from homeostat.lake import sql as warehouse
    from homeostat.runtime.warehouse import BESIDE as TABLES
    from homeostat.runtime.warehouse import beside

    here = session()
    asked = sys.stdin.read() if query == "-" else query
    with here.home() as (_, home):
        named = [name for name in TABLES if name == "decisions" or name in asked.lower()]
        extra = beside(home, named)
        values = {name: _value(text) for name, text in params}
        try:
            answer = warehouse.query(home.lake, asked, extra, values)
        except warehouse.QueryRefused as refused:
            if "syntax error" not in str(refused) or not _BARE_AT.search(asked):
                raise
            hint = f'{refused}; AT is a word of SQL: write the column as "at"'
            raise warehouse.QueryRefused(hint) from refused
    if parquet is not None:
        answer.write_parquet(parquet)
        body = {"written": str(parquet), "rows": answer.height, "columns": answer.columns}
        here.answer(body, lambda to: to.print(f"{answer.height:,} rows in {parquet}"))
    elif csv:
        click.echo(_texts(answer).write_csv(), nl=False)
    else:
        rows = answer.to_dicts()
        here.answer(rows, lambda to: _show_rows(to, answer, rows))


def _texts(answer: pl.DataFrame) -> pl.DataFrame:
    """Return rows with received bytes as texts, as --json gives them."""
    import polars as pl

    from homeostat.runtime.cli_output import as_json

    return answer.with_columns(
        pl.Series(name, as_json(answer[name]), dtype=pl.String)
        for name, dtype in answer.schema.items()
        if dtype == pl.Binary
    )


def _value(text: str) -> object:
    """Return a parameter: a number, a truth value or null as in JSON, any other text as it is."""
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(found, list | dict) else found


def _show_rows(to: Console, answer: pl.DataFrame, rows: Sequence[dict[str, Any]]) -> None:
    from homeostat.runtime.cli_output import table

    shown = rows[:ROWS] if to.is_terminal else rows
    table(to, shown)
    if not rows:
        to.print(f"no rows; columns: {', '.join(answer.columns)}", style="dim")
    elif len(shown) < len(rows):
        to.print(f"the first {len(shown)} of {len(rows):,} rows; --csv has all", style="dim")
