"""Databases through SQLAlchemy, any URL it knows: read only, in batches, server-side cursors."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from homeostat.core.clock import from_micros
from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError, MissingExtra
from homeostat.declare.feeds import Query
from homeostat.ingest.snapshot import Asked, Rows

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["DatabaseFailed", "SqlDatabase"]

_FLOAT4 = 700
"""PostgreSQL's number of the type `real`."""

_VARIABLE = re.compile(r"\$\{(\w+)\}")
_CONNECT_S = 10


class DatabaseFailed(HomeostatError):
    """A database that cannot be reached, or that refuses a query; asking again later may help."""

    retryable = True

    def __init__(self, query: str, address: str, said: str) -> None:
        super().__init__(
            f"query of {query!r}, database {address}: {said}; allowed: a database that answers "
            "the query; check address, rights, and the names of table and columns"
        )


class UrlInvalid(HomeostatError, ValueError):
    """A URL that names no database, or a secret that is not there."""

    def __init__(self, query: str, found: str) -> None:
        super().__init__(
            f"query of {query!r}: {found}; allowed: a SQLAlchemy URL such as "
            "'postgresql+psycopg://app:${DB_PASSWORD}@db/shop', with environment variables that "
            "are set; correct the URL, or set the variable"
        )


class SqlDatabase:
    """Answers a query from the database its URL names; connects anew for each run.

    The URL's `${NAME}` are filled from the environment when a run begins. What they stand for is
    in no message: errors name the address without user and password.
    """

    def __init__(self, query: Query) -> None:
        self._query = query

    def columns(self) -> tuple[str, ...]:
        """Return the names of the result's columns."""
        with self._connection() as connection:
            from sqlalchemy import text

            statement = f"SELECT * FROM {self._relation(connection)} WHERE 1 = 0"
            with connection.execute(text(statement), self._planned(connection, 0)) as rows:
                return tuple(rows.keys())

    def fetch(self, asked: Asked) -> Generator[Rows]:
        """Yield the rows that were asked for; raise `DatabaseFailed` if they do not come."""
        with self._connection() as connection:
            from sqlalchemy import text

            order = [_quoted(connection, column) for column in asked.order]
            first, given = order[0], self._planned(connection, asked.planned)
            where = "" if asked.missing else f" WHERE {first} IS NOT NULL"
            if asked.start is not None:
                given["start"] = asked.start
                where = f" WHERE ({first} >= :start{f' OR {first} IS NULL' * asked.missing})"
            columns = ", ".join(_quoted(connection, column) for column in asked.columns)
            statement = (
                f"SELECT {columns} FROM {self._relation(connection)}{where} "
                f"ORDER BY {', '.join(order)}"
            )
            with connection.execute(text(statement), given) as rows:
                narrow = _narrow(rows.cursor)
                for part in rows.partitions(asked.batch):
                    yield [_widened(row, narrow) for row in part] if narrow else part

    def lacks(self, column: str) -> bool:
        """Return whether there are rows without a value in a column."""
        with self._connection() as connection:
            from sqlalchemy import text

            relation = self._relation(connection)
            statement = f"SELECT 1 FROM {relation} WHERE {_quoted(connection, column)} IS NULL"
            with connection.execute(text(statement), self._planned(connection, 0)) as rows:
                return rows.first() is not None

    def _relation(self, connection: Connection) -> str:
        if self._query.table is not None:
            return ".".join(_quoted(connection, part) for part in self._query.table.split("."))
        select = (self._query.sql or "").strip().rstrip(";")
        return f"({select}\n) fetched"  # a comment at its end ends with the line

    def _planned(self, connection: Connection, planned: Micros) -> dict[str, Any]:
        """Return the instant of the run, if the SELECT asks for it."""
        if ":planned" not in (self._query.sql or ""):
            return {}
        instant = from_micros(planned)
        if connection.dialect.name == "sqlite":
            return {"planned": f"{instant:%Y-%m-%d %H:%M:%S}"}
        return {"planned": instant}

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        try:
            from sqlalchemy.exc import SQLAlchemyError
        except ModuleNotFoundError as missing:
            raise MissingExtra("reading a database", "database") from missing
        url, secrets = self._filled()
        engine = self._engine(url)
        file = engine.url.database or ""
        if _is_file(engine) and not os.path.exists(file):
            raise self._failed(engine, "there is no such file", secrets)
        try:
            with engine.connect() as connection:
                yield connection.execution_options(stream_results=True)
        except SQLAlchemyError as error:
            said = str(getattr(error, "orig", None) or error)
            raise self._failed(engine, said, secrets) from None
        finally:
            engine.dispose()

    def _failed(self, engine: Engine, said: str, secrets: list[str]) -> DatabaseFailed:
        hidden = [*secrets, str(engine.url.password or "")]
        address = _hidden(_address(engine), hidden)
        return DatabaseFailed(self._query.name, address, _hidden(said, hidden))

    def _engine(self, url: str) -> Engine:
        from sqlalchemy import create_engine, event
        from sqlalchemy.exc import ArgumentError
        from sqlalchemy.pool import NullPool

        settings: dict[str, Any] = {"poolclass": NullPool, "hide_parameters": True}
        if url.startswith("postgresql"):
            settings["connect_args"] = {"connect_timeout": _CONNECT_S}
            settings["execution_options"] = {"postgresql_readonly": True}
        try:
            engine = create_engine(url, **settings)
        except ModuleNotFoundError as missing:
            raise UrlInvalid(
                self._query.name, f"the driver {missing.name!r} is not installed"
            ) from None
        except (ArgumentError, ValueError):
            raise UrlInvalid(self._query.name, "the url is none of SQLAlchemy's") from None
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _only_read)
        return engine

    def _filled(self) -> tuple[str, list[str]]:
        """Return the URL with the environment's variables in it, and what they stand for."""
        secrets: list[str] = []
        whole = _VARIABLE.fullmatch(self._query.url) is not None

        def variable(found: re.Match[str]) -> str:
            value = os.environ.get(found[1])
            if value is None:
                raise UrlInvalid(self._query.name, f"there is no variable {found[1]}")
            secrets.append(value)
            return value if whole else quote(value, safe="")

        return _VARIABLE.sub(variable, self._query.url), secrets


def _narrow(cursor: Any) -> tuple[int, ...]:
    """Return which columns of PostgreSQL's psycopg have floats of 32 bits.

    It hands out the float64 of their shortest text, which is another number than theirs.
    """
    if type(cursor).__module__.partition(".")[0] != "psycopg" or cursor.description is None:
        return ()
    places = enumerate(cursor.description)
    return tuple(place for place, column in places if column.type_code == _FLOAT4)


def _widened(row: Sequence[object], narrow: tuple[int, ...]) -> Sequence[object]:
    """Return a row whose floats of 32 bits are the same numbers in 64."""
    values = list(row)
    for place in narrow:
        value = values[place]
        if isinstance(value, float):
            values[place] = struct.unpack("f", struct.pack("f", value))[0]
    return values


def _address(engine: Engine) -> str:
    """Return where a database is, without who asks it."""
    url = engine.url
    host = "" if url.host is None else f"//{url.host}{'' if url.port is None else f':{url.port}'}/"
    return f"{url.drivername}:{host}{url.database or ''}"


def _is_file(engine: Engine) -> bool:
    """Return whether the database is a file of SQLite, which would make one that is not there."""
    name = engine.url.database or ""
    return engine.dialect.name == "sqlite" and bool(name) and not name.startswith((":", "file:"))


def _quoted(connection: Connection, name: str) -> str:
    return str(connection.dialect.identifier_preparer.quote(name))


def _hidden(said: str, secrets: list[str]) -> str:
    """Return a message on one line, without secrets."""
    for secret in filter(None, secrets):
        said = said.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return " ".join(said.split())


def _only_read(connection: Any, record: object) -> None:
    """Let SQLite write nothing, and hand out text that is no UTF-8: the intake refuses that row."""
    connection.execute("PRAGMA query_only = ON")
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
