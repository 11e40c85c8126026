"""Where a source's events are fetched from, and when: watched folders and databases."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta

from homeostat.core.cron import CronInvalid, next_run
from homeostat.core.durations import Micros
from homeostat.core.errors import did_you_mean
from homeostat.declare.mistakes import duration, require, several, span

__all__ = ["CATCH_UP", "Feed", "Folder", "Query"]

CATCH_UP = ("once", "each")
"""What becomes of runs that were missed: one for all of them, or one for each."""

_VARIABLE = r"\$\{\w+\}"
_PASSWORDS = (
    re.compile(r"//[^/@:]*:(?P<password>[^/]*)@"),
    re.compile(r"[?&]pass(?:word|wd)?=(?P<password>[^&]*)", re.IGNORECASE),
)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder whose files are taken in as they come and as they grow.

    Args:
        path: the folder, relative to where the command runs.
        files: one glob or several, relative to the folder: `*.csv`, `**/*.ndjson.gz`.
        every: how often to look; by default every 5 seconds.
        cron: the instants to look at instead, a cron expression in UTC.
        quiet: a last line without its end is taken when the file has not changed for so long.
        history: rows are known as the source declares (its `known_time` field, or event time plus
            `delay`), not when they are taken.
        catch_up: of missed `cron` instants, run `once` for all of them, or `each`.

    >>> Folder("incoming", "*.csv").schedule.every
    5000000
    """

    path: str
    files: str | tuple[str, ...] = "*"
    every: str | timedelta | Micros | None = None
    cron: str | None = None
    quiet: str | timedelta | Micros = "1m"
    history: bool = False
    catch_up: str = "once"

    def __post_init__(self) -> None:
        where = f"folder {self.path!r}"
        object.__setattr__(self, "path", str(self.path))
        object.__setattr__(self, "files", several(self.files))
        object.__setattr__(self, "quiet", duration(self.quiet, where, "quiet"))
        if self.every is None and self.cron is None:
            object.__setattr__(self, "every", "5s")
        if self.every is not None:
            object.__setattr__(self, "every", span(self.every, where, "every"))
        _check_schedule(where, self.schedule)
        for pattern in self.patterns:
            require(
                isinstance(pattern, str)
                and bool(pattern)
                and not pattern.startswith(("/", "~"))
                and ".." not in pattern.split("/"),
                where,
                f"files={pattern!r}",
                "globs inside the folder, such as '*.csv' or '**/*.parquet'",
                "name another folder, and the files relative to it",
            )

    @property
    def patterns(self) -> tuple[str, ...]:
        """The globs, always as a tuple."""
        return several(self.files)

    @property
    def quiet_us(self) -> Micros:
        """The declared quiet in microseconds."""
        return duration(self.quiet, self.path, "quiet")

    @property
    def schedule(self) -> Schedule:
        """When to look."""
        return Schedule(_micros(self.every), self.cron, self.catch_up)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Rows of a database that are fetched on a schedule.

    Args:
        url: a SQLAlchemy URL; `${NAME}` in it is the environment variable of that name, so that
            no secret stands in the declarations.
        table: the table or view, `schema.name` where it has a schema; or
        sql: a SELECT. `:planned` in it is the instant the run was planned for.
        cursor: the column that never decreases from one change to the next (`updated_at`, a
            sequence): only rows at or after the last one taken are read. Without it each run
            reads all rows.
        overlap: how far behind the last row taken a transaction may still commit: a span of time,
            or a number for a cursor that counts.
        every, cron: when to run; one of them.
        catch_up: of runs missed while the system was down, run `once` for all, or `each`.
        timezone: what instants without a zone mean, as in "UTC"; without it they are refused.
        history: rows are known as the source declares (its `known_time` field, or event time plus
            `delay`), not when they are taken.
        batch: how many rows are held in memory and committed at once.

    >>> Query(url="sqlite:///shop.db", table="orders", cursor="updated_at", every="1h").name
    'orders'
    """

    url: str
    table: str | None = None
    sql: str | None = None
    cursor: str | None = None
    overlap: str | timedelta | int = 0
    every: str | timedelta | Micros | None = None
    cron: str | None = None
    catch_up: str = "once"
    timezone: str | None = None
    history: bool = False
    batch: int = 10_000

    def __post_init__(self) -> None:
        where = f"query of {self.table or 'sql'!r}"
        found = [match for pattern in _PASSWORDS if (match := pattern.search(str(self.url)))]
        require(
            all(re.fullmatch(_VARIABLE, match["password"]) for match in found),
            where,
            "a password in the url",
            "passwords from the environment, as in 'postgresql+psycopg://app:${DB_PASSWORD}@db/shop'",
            "put it into an environment variable and write ${NAME}",
        )
        require(
            (self.table is None) != (self.sql is None),
            where,
            "both table and sql" if self.table and self.sql else "neither table nor sql",
            "one of them",
            "name the table, or write the SELECT",
        )
        if not isinstance(self.overlap, int):
            object.__setattr__(self, "overlap", timedelta(microseconds=duration(
                self.overlap, where, "overlap")))  # fmt: skip
        require(
            self.cursor is not None or not self.overlap,
            where,
            "an overlap without a cursor",
            "overlap= beside cursor=",
            "name the cursor column, or drop the overlap: all rows are read anyway",
        )
        if self.every is not None:
            object.__setattr__(self, "every", span(self.every, where, "every"))
        _check_schedule(where, self.schedule)
        require(self.batch > 0, where, f"batch={self.batch}", "1 or more", "leave it out")
        _check_zone(where, self.timezone)

    @property
    def behind(self) -> timedelta | int:
        """The declared overlap: a span of time, or a number for a cursor that counts."""
        if isinstance(self.overlap, int | timedelta):
            return self.overlap
        return timedelta(microseconds=duration(self.overlap, self.name, "overlap"))

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.table or "sql"

    @property
    def schedule(self) -> Schedule:
        """When to run."""
        return Schedule(_micros(self.every), self.cron, self.catch_up)


Feed = Folder | Query
"""What an event source may fetch its events from."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Instants to run at: whole multiples of `every` since 1970, or those of `cron`; in UTC."""

    every: Micros | None
    cron: str | None
    catch_up: str = "once"


def _micros(every: str | timedelta | Micros | None) -> Micros | None:
    return None if every is None else duration(every, "schedule", "every")


def _check_schedule(where: str, schedule: Schedule) -> None:
    require(
        (schedule.every is None) != (schedule.cron is None),
        where,
        "both every and cron" if schedule.cron is not None else "neither every nor cron",
        "one of them",
        "write every='1h', or cron='0 3 * * *'",
    )
    if schedule.cron is not None:
        try:
            next_run(schedule.cron, 0)
        except CronInvalid as invalid:
            require(
                False,
                where,
                f"cron={schedule.cron!r}: {invalid.found}",
                "minute, hour, day of month, month and day of week, in UTC",
                "write '0 3 * * *' for each day at three",
            )
    require(
        schedule.catch_up in CATCH_UP,
        where,
        f"catch_up={schedule.catch_up!r}.{did_you_mean(str(schedule.catch_up), CATCH_UP)}",
        ", ".join(CATCH_UP),
        "leave it out for 'once'",
    )


def _check_zone(where: str, name: str | None) -> None:
    if name is None:
        return
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        require(
            False,
            where,
            f"timezone={name!r}",
            "a name of the time zone database, such as 'UTC' or 'Europe/Berlin'",
            "correct the name",
        )
