"""Watched folders: files are taken in as they come and as they grow, each record once."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from homeostat.core.durations import Micros
from homeostat.core.errors import HomeostatError
from homeostat.declare.feeds import Folder
from homeostat.ingest.feed import Landing
from homeostat.ingest.file_parts import FileIncomplete, Mark, Reached, mark_of, parts_of
from homeostat.ingest.files import FileInvalid
from homeostat.ingest.log import Advance
from homeostat.ingest.schedules import Timetable

__all__ = ["FolderFeed", "files_in", "stream_of"]


class FolderInvalid(HomeostatError):
    """A watched folder that is not there, or cannot be looked into."""

    retryable = True

    def __init__(self, source: str, folder: Path, why: str) -> None:
        super().__init__(
            f"source {source!r}, folder {folder}: {why}; allowed: a folder that this user can "
            "read; make it, or correct its path or rights"
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A file as it was last looked at, and since when it has been so."""

    mark: Mark
    since: Micros


def stream_of(name: str) -> str:
    """Return the stream under which the log keeps how far a file is taken."""
    return f"file/{name}"


def files_in(source: str, feed: Folder) -> dict[str, Path]:
    """Return the files that the globs of a folder name, by path within it, sorted.

    Hidden files are left out: that is how a file is called while it is being uploaded. So is what
    is no file, such as a pipe; a link that leads nowhere is a file that cannot be read.
    """
    root = Path(feed.path)
    if not root.is_dir():
        raise FolderInvalid(source, root, "there is no such folder")
    try:
        with os.scandir(root):
            pass  # a glob is silent about a folder that may not be read
        found = {path for pattern in feed.patterns for path in root.glob(pattern)}
    except OSError as problem:
        raise FolderInvalid(source, root, str(problem)) from problem
    files = [path for path in found if path.is_file() or not path.exists()]
    named = {_name(path.relative_to(root)): path for path in files}
    return {
        name: named[name]
        for name in sorted(named)
        if not any(part.startswith(".") for part in name.split("/"))
    }


def _name(path: Path) -> str:
    """Return a path as text that any database can keep, whatever bytes it is made of."""
    return path.as_posix().encode(errors="backslashreplace").decode()


class FolderFeed:
    """Takes the files of a source's folder into the log.

    How far each file is taken is kept in the transaction that appends its records: a process that
    is killed goes on at the right record. A file that cannot be read does not hold up others; a
    person is told of it, once.

    Args:
        feed: the declared folder.
        landing: where the records go.
    """

    def __init__(self, feed: Folder, landing: Landing) -> None:
        self._feed, self._landing = feed, landing
        self._timetable = Timetable(feed.schedule, landing)
        self._looked: Micros | None = None
        self._seen: dict[str, _Seen] = {}
        self._settled: dict[str, Mark] = {}
        self._said: dict[str, str] = {}
        self._noted: set[tuple[str, str]] = set()

    def take(self, *, force: bool = False) -> Generator[int]:
        """Take what is there, if it is time to look; yield the number of records per commit.

        With `force` it is time, and last lines without their end are taken, too.
        """
        now = self._landing.clock.now()
        cron = self._feed.cron is not None
        run = self._timetable.run(now, force=force) if cron else None
        if not force and (run is None if cron else not self._is_time(now)):
            return
        self._looked = now
        files = files_in(self._landing.source.name, self._feed)
        self._forget(files)
        positions: dict[str, str] | None = None
        for name, path in files.items():
            mark = self._mark(name, path)
            if mark is None or self._settled.get(name) == mark:
                continue
            if positions is None:
                positions = self._landing.log.positions(self._landing.source.name)
            is_quiet = self._is_quiet(name, mark, now)
            said = positions.get(stream_of(name))
            yield from self._take(name, path, said, ended=force or is_quiet)
        if run is not None and run.done:
            self._landing.append([], run.done)

    def _is_time(self, now: Micros) -> bool:
        every = self._feed.schedule.every or 0
        return self._looked is None or not 0 <= now - self._looked < every

    def _take(self, name: str, path: Path, said: str | None, *, ended: bool) -> Iterator[int]:
        """Take one file from where the log says; a file that cannot be read is told of."""
        before = Reached.of(said)
        try:
            said_of = partial(self._note, name)
            source = self._landing.source
            with closing(parts_of(source, path, before, said_of, ended=ended)) as parts:
                for payloads, reached in parts:
                    if reached.text() == said:
                        continue
                    if reached.rows - len(payloads) < before.rows:
                        self._say(
                            name, "it changed after it was taken, and is taken from its beginning: "
                            "rows as before are duplicates, others under the same id conflicts"
                        )  # fmt: skip
                    step = Advance(stream_of(name), said, reached.text())
                    self._landing.append(payloads, [step], history=self._feed.history)
                    said, before = step.to, reached
                    if payloads:
                        yield len(payloads)
            self._settle(name, path, before)
        except FileIncomplete as incomplete:
            self._say(name, str(incomplete))
        except FileInvalid as invalid:
            self._say(name, str(invalid))
            self._settled[name] = self._seen[name].mark
        except OSError as problem:
            self._say(name, f"it cannot be read: {problem.strerror or problem}; it is tried again")

    def _mark(self, name: str, path: Path) -> Mark | None:
        try:
            return mark_of(path)
        except OSError as problem:
            self._say(name, f"it cannot be read: {problem.strerror or problem}; it is tried again")
            return None

    def _is_quiet(self, name: str, mark: Mark, now: Micros) -> bool:
        """Return whether a file has not changed for as long as was declared."""
        seen = self._seen.get(name)
        if seen is None or seen.mark != mark or now < seen.since:
            seen = self._seen[name] = _Seen(mark, now)
        return now - seen.since >= self._feed.quiet_us

    def _settle(self, name: str, path: Path, reached: Reached) -> None:
        """Look at a file again only when it changes, if all of it is taken."""
        mark = mark_of(path)
        if mark == self._seen[name].mark and (reached.mark is not None or reached.covers(mark)):
            self._settled[name] = mark
            self._said.pop(name, None)

    def _forget(self, files: dict[str, Path]) -> None:
        """Speak of files that went away before they were taken; keep nothing of those gone."""
        for name in [name for name in self._seen if name not in files]:
            if name not in self._settled:
                self._say(name, "it is gone, and its end was not taken")
            for kept in (self._seen, self._settled, self._said):
                kept.pop(name, None)
            self._noted = {each for each in self._noted if each[0] != name}

    def _note(self, name: str, words: str) -> None:
        """Speak of what is no fault of a file, once while it is there."""
        if (name, words) not in self._noted:
            self._noted.add((name, words))
            self._landing.told(f"{name}: {words}")

    def _say(self, name: str, words: str) -> None:
        if self._said.get(name) != words:
            self._said[name] = words
            self._landing.told(f"{name}: {words}")
