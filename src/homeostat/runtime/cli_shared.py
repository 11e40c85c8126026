"""What every command shares: the system, the home, and two ways of answering."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from homeostat.core.errors import HomeostatError

if TYPE_CHECKING:
    from rich.console import Console

    from homeostat.core.durations import Micros
    from homeostat.declare.storage import Storage
    from homeostat.declare.system import System
    from homeostat.ingest.log import EventLog
    from homeostat.runtime.app import App
    from homeostat.runtime.home import Home
    from homeostat.runtime.worker import Counts

__all__ = [
    "BESIDE",
    "FOUND",
    "Command",
    "Group",
    "HomeMissing",
    "Session",
    "Taking",
    "session",
    "told",
]

FOUND = 3
"""Exit status of a command that did its work and found something that wants attention."""

_KEY, _PRESENT, _FAILED = "homeostat.session", "homeostat.present", "homeostat.failed"


class HomeMissing(HomeostatError):
    """A folder that is no home."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"home {folder}: there is none; allowed: a folder that `homeostat ingest`, `replay` or "
            "`run` has filled; name it with --home, or fill one"
        )


class HomeUnreadable(HomeostatError):
    """A home whose files cannot be opened."""

    def __init__(self, folder: Path, why: Exception) -> None:
        from homeostat.core.storage import cannot_be_written

        if cannot_be_written(why):
            super().__init__(
                f"home {folder}: {why}; allowed: a file system with room that this user can write; "
                "make room there, or make it writable: what is kept is whole"
            )
            return
        super().__init__(
            f"home {folder}: {why}; allowed: a folder this user can read and write, with the files "
            "as they were written; `homeostat doctor` says which one is damaged"
        )


BESIDE = "Another process runs this home: it folds them as soon as it sees them."


@dataclass
class Taking:
    """A home that records are appended to at an instant; `drain` is None where another folds."""

    home: Home
    now: Micros
    drain: Callable[[], dict[str, Counts]] | None

    @property
    def folds(self) -> bool:
        """Whether this process folds what it appends."""
        return self.drain is not None

    def require_present(self, source: str) -> None:
        """Raise `LaterWaits` if what comes now would wait behind what the home's log has."""
        from homeostat.runtime.one_present import require_present
        from homeostat.runtime.timeline import Timeline

        timeline = Timeline.load(self.home.folder)
        if timeline is not None:
            require_present(self.home, timeline, source, self.now)

    def fold(self) -> dict[str, Counts]:
        """Fold what was appended, if it is this process that does; return the counts by source."""
        return {} if self.drain is None else self.drain()


@dataclass
class Session:
    """The options that all commands take, and what they lead to."""

    path: Path
    folder: Path
    json: bool

    def system(self) -> System:
        """Return the declared system."""
        from homeostat.runtime.loading import load_system

        return load_system(self.path)

    def storage(self) -> Storage:
        """Return where the profile says that the lake is."""
        from homeostat.runtime.profile import load_storage

        return load_storage(self.path)

    def log(self, system: System) -> EventLog | None:
        """Return the home's log if the profile says that it is in Kafka, None for its own."""
        from homeostat.runtime.log_place import log_of
        from homeostat.runtime.profile import load_log

        return log_of(self.folder, load_log(self.path, system))

    def opened(self, system: System, *, sync: bool = True) -> Home:
        """Open the home, with lake and log where the profile says; the caller closes it."""
        from homeostat.runtime.home import Home

        with ExitStack() as undo:
            log = self.log(system)
            if log is not None:
                undo.callback(log.close)
            home = Home(self.folder, system, sync=sync, log=log, storage=self.storage())
            undo.pop_all()  # the home closes its log
        return home

    @contextmanager
    def home(self) -> Iterator[tuple[System, Home]]:
        """Open the home to look at it, beside any process that writes to it."""
        system = self.system()
        if not (self.folder / "meta.db").exists():
            raise HomeMissing(self.folder)
        with _readable(self.folder):
            home = self.opened(system)
        try:
            self._tell_present()
            yield system, home
        finally:
            home.close()

    @contextmanager
    def app(self, *, new: bool = False, runs: bool = False, live: bool = False) -> Iterator[App]:
        """Open the home to change it; `new` allows one that is not there yet.

        With `runs`, the profile says what its log lets go of, when answers are durable and how
        often the loop looks. `live` is as in `homeostat.open`.
        """
        system = self.system()
        if not new and not (self.folder / "meta.db").exists():
            raise HomeMissing(self.folder)
        with _readable(self.folder):
            from homeostat.runtime.app import App
            from homeostat.runtime.profile import Profile, load_profile

            profile = load_profile(self.path, system) if runs else Profile()
            storage = self.storage()
            with ExitStack() as undo:
                log = self.log(system)
                if log is not None:
                    undo.callback(log.close)
                # What was cut off is begun again beside `homeostat run`, not before it answers.
                opened = App(
                    system,
                    self.folder,
                    log=log,
                    keep=profile.log,
                    storage=storage,
                    log_predictions=profile.predictions,
                    finish=False,
                    live=live,
                    step=profile.step,
                )
                undo.pop_all()  # the home closes its log
        with opened as app:
            self._tell_present()
            yield app

    def _tell_present(self) -> None:
        """Say after a command's answer which instant the home is at, unless it is the machine's."""
        from homeostat.runtime.timeline import Timeline

        timeline, root = Timeline.load(self.folder), click.get_current_context().find_root()
        words = "" if timeline is None else timeline.describe()
        if words and root.meta.setdefault(_PRESENT, words) is words:
            root.call_on_close(lambda: None if _FAILED in root.meta else self.note(words))

    @contextmanager
    def taking(self, *, new: bool = False) -> Iterator[Taking]:
        """Open the home to append to its log; beside a process that writes to it, if need be."""
        from homeostat.runtime.lock import HomeBusy

        try:
            with self.app(new=new) as app:
                yield Taking(app.home, app.clock.now(), app.live.drain)
                return
        except HomeBusy:
            pass
        from homeostat.runtime.reading import present

        with self.home() as (_, home):
            yield Taking(home, present(home), None)

    def console(self, *, notes: bool = False) -> Console:
        """Return the console for answers, or for notes and progress beside them (stderr)."""
        from homeostat.runtime.cli_output import console

        return console(notes=notes)

    def answer(self, value: object, show: Callable[[Console], None]) -> None:
        """Give the answer: `value` as JSON, or what `show` prints for a person."""
        if self.json:
            from homeostat.runtime.cli_output import as_json

            click.echo(json.dumps(as_json(value), ensure_ascii=False, allow_nan=False))
        else:
            show(self.console())

    def note(self, words: str) -> None:
        """Tell a person something beside the answer; silent with --json."""
        if not self.json:
            self.console(notes=True).print(words, style="dim", soft_wrap=True, markup=False)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as broken:
        raise HomeUnreadable(folder, broken) from broken
    except Exception as broken:
        if type(broken).__module__ != "lmdb":
            raise
        raise HomeUnreadable(folder, broken) from broken


def session() -> Session:
    """Return the session of the command that runs."""
    given = click.get_current_context().meta.get(_KEY, {})
    return Session(
        path=Path(given.get("system") or os.environ.get("HOMEOSTAT_SYSTEM") or "system.py"),
        folder=Path(given.get("home") or os.environ.get("HOMEOSTAT_HOME") or "state"),
        json=bool(given.get("json")),
    )


def _remember(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value:
        context.meta.setdefault(_KEY, {})[parameter.name] = value


def _shared_options() -> list[click.Parameter]:
    """Return the options of all commands; they may stand before or after a command's name."""
    shared: Mapping[str, Any] = {"expose_value": False, "callback": _remember}
    return [
        click.Option(
            ["--system"],
            metavar="PATH",
            help="The file of declarations (default: system.py, or HOMEOSTAT_SYSTEM).",
            **shared,
        ),
        click.Option(
            ["--home"],
            metavar="DIR",
            help="The folder the system lives in (default: state, or HOMEOSTAT_HOME).",
            **shared,
        ),
        click.Option(["--json"], is_flag=True, help="Answer in JSON, for machines.", **shared),
    ]


class Command(click.Command):
    """A command with the shared options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared_options()


class Group(click.Group):
    """A group of commands with the shared options; the outermost one also reports errors.

    `headings` orders the commands in the help; commands without one come last.
    """

    command_class = Command
    group_class = type

    def __init__(
        self,
        *args: Any,
        headings: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.params += _shared_options()
        self._headings = dict(headings or {})

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error of ours is one message and exit status 1."""
        if ctx.parent is not None:
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except HomeostatError as problem:
            _fail(type(problem).__name__, told(problem))
        except OSError as problem:
            if problem.errno == errno.EPIPE:
                raise
            _fail(type(problem).__name__, str(problem))
        return ctx.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        if not self._headings:
            super().format_commands(ctx, formatter)
            return
        for heading, names in self._headings.items():
            found = [(name, self.commands[name].get_short_help_str(80)) for name in names]
            with formatter.section(heading):
                formatter.write_dl(found)


def told(problem: HomeostatError) -> str:
    """Return what an error says, after the line of the file it is about."""
    return "".join(f"{note}: " for note in getattr(problem, "__notes__", ())) + str(problem)


def _fail(kind: str, message: str) -> None:
    click.get_current_context().find_root().meta[_FAILED] = True
    if session().json:
        click.echo(json.dumps({"error": message, "type": kind}, ensure_ascii=False))
        return
    click.echo(click.style("error: ", fg="red", bold=True) + message, err=True)
