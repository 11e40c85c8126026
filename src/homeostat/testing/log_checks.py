"""The laws of an event log, as checks that anybody can run on an adapter of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from homeostat.core.errors import HomeostatError
from homeostat.ingest.log import (
    Advance,
    EventLog,
    LogEnd,
    LogTrimmed,
    PositionTaken,
    TrimmableLog,
)
from homeostat.testing.laws import LawBroken, hold

__all__ = ["event_log_checks", "trimmable_log_checks"]


def event_log_checks(
    open_log: Callable[[str], EventLog],
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield (name, check); `open_log(name)` opens the log of that name, new or as it was left.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from homeostat.ingest.sqlite_log import SqliteLog
    >>> with TemporaryDirectory() as folder:
    ...     for name, check in event_log_checks(lambda name: SqliteLog(Path(folder, name))):
    ...         check()
    """

    def offsets_count_from_zero() -> None:
        with closing(open_log("offsets")) as log:
            hold(log.end("a") == LogEnd(0, None), "an empty log ends at offset 0")
            firsts = [log.append("a", [1] * n, [b"x"] * n) for n in (2, 0, 3)]
            hold(firsts == [0, 2, 2], f"append returns the first offset, not {firsts}")
            hold(log.end("a") == LogEnd(5, 1), "the end is one past the last record")
            offsets = log.read("a", -1, 9).offsets.tolist()
            hold(offsets == [0, 1, 2, 3, 4], f"offsets are 0, 1, 2 ..., not {offsets}")

    def known_times_never_decrease() -> None:
        with closing(open_log("known")) as log:
            log.append("a", [5, 3, 7], [b"x"] * 3)
            log.append("a", [6, 8], [b"x"] * 2)
            known = log.read("a", -1, 9).known.tolist()
            hold(known == [5, 5, 7, 7, 8], f"an earlier time is raised to the last: {known}")

    def any_cut_reads_the_same() -> None:
        with closing(open_log("cuts")) as log:
            payloads = [str(i).encode() for i in range(12)]
            for begin in range(0, 12, 5):
                part = payloads[begin : begin + 5]
                log.append("a", range(begin, begin + len(part)), part)
            for limit in (1, 2, 5, 12, 100):
                seen: list[bytes] = []
                for _ in range(13):
                    batch = log.read("a", len(seen) - 1, limit)
                    hold(len(batch) <= limit, "a read keeps to its limit")
                    seen += batch.payloads
                hold(seen == payloads, f"limit {limit} read {seen}")

    def only_what_was_known_before() -> None:
        with closing(open_log("before")) as log:
            log.append("a", [1, 2, 2, 3], [b"p", b"q", b"r", b"s"])
            found = {t: b"".join(log.read("a", -1, 9, known_before=t).payloads) for t in range(5)}
            expected = {0: b"", 1: b"", 2: b"p", 3: b"pqr", 4: b"pqrs"}
            hold(found == expected, f"known strictly before: {found}")

    def another_process_reads_what_was_appended() -> None:
        with closing(open_log("again")) as log:
            log.append("a", [1], [b"\x00\xff"])
        with closing(open_log("again")) as log:
            hold(list(log.read("a", -1, 9).payloads) == [b"\x00\xff"], "bytes are kept")
            hold(log.append("a", [0], [b""]) == 1, "offsets go on")
            hold(log.end("a") == LogEnd(2, 1), "known times go on")

    def sources_are_separate() -> None:
        with closing(open_log("sources")) as log:
            log.append("a", [9], [b"a"])
            log.append("b", [1], [b"b"])
            hold(list(log.read("b", -1, 9).payloads) == [b"b"], "each its own records")
            hold(log.end("b") == LogEnd(1, 1), "each its own offsets and times")

    def a_refused_append_leaves_nothing() -> None:
        with closing(open_log("refused")) as log:
            try:
                log.append("a", [1, 2], [b"x"])
            except HomeostatError:
                pass
            else:
                raise LawBroken("two known times for one payload are refused")
            hold(log.end("a") == LogEnd(0, None), "nothing of it is there")

    def a_stream_outside_moves_with_its_records() -> None:
        with closing(open_log("streams")) as log:
            hold(log.positions("a") == {}, "nothing was read yet")
            log.append("a", [1], [b"x"], [Advance("s", None, "1"), Advance("t", None, "7")])
            log.append("a", [], [], [Advance("s", "1", "5")])
            log.append("b", [1], [b"y"], [Advance("s", None, "2")])
        with closing(open_log("streams")) as log:
            hold(log.positions("a") == {"s": "5", "t": "7"}, "positions are kept, by stream")
            hold(log.positions("b") == {"s": "2"}, "and by source")

    def a_step_from_elsewhere_is_refused_with_its_records() -> None:
        with closing(open_log("fenced")) as log:
            log.append("a", [1], [b"x"], [Advance("s", None, "1")])
            for wrong in (None, "0", "2"):
                try:
                    log.append(
                        "a", [1], [b"x"], [Advance("t", None, "1"), Advance("s", wrong, "3")]
                    )
                except PositionTaken:
                    pass
                else:
                    raise LawBroken(f"a step from {wrong!r} is refused where the log stands at '1'")
            hold(log.positions("a") == {"s": "1"}, "no position moved")
            hold(log.end("a") == LogEnd(1, 1), "no record came")

    for check in (
        offsets_count_from_zero, known_times_never_decrease, any_cut_reads_the_same,
        only_what_was_known_before, another_process_reads_what_was_appended,
        sources_are_separate, a_refused_append_leaves_nothing,
        a_stream_outside_moves_with_its_records, a_step_from_elsewhere_is_refused_with_its_records,
    ):  # fmt: skip
        yield check.__name__.replace("_", " "), check


def trimmable_log_checks(
    open_log: Callable[[str], TrimmableLog],
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield (name, check) for a log that can let go of its oldest records.

    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from homeostat.ingest.sqlite_log import SqliteLog
    >>> with TemporaryDirectory() as folder:
    ...     for name, check in trimmable_log_checks(lambda name: SqliteLog(Path(folder, name))):
    ...         check()
    """

    def filled(log: TrimmableLog) -> list[bytes]:
        payloads = [str(i).encode() * 50 for i in range(40)]
        for i, payload in enumerate(payloads):
            log.append("a", [i], [payload], [Advance("s", str(i - 1) if i else None, str(i))])
        log.append("b", [7], [b"b"])
        return payloads

    def let_go(log: TrimmableLog, before: int) -> int:
        gone = 0
        while bite := log.trim("a", before):
            gone += bite
        return gone

    def what_is_kept_is_read_as_before() -> None:
        with closing(open_log("kept")) as log:
            payloads = filled(log)
            gone = let_go(log, 25)
            first = log.end("a").first_offset
            hold(first == gone > 0, f"{gone} records went, and the first kept is {first}")
            batch = log.read("a", first - 1, 99)
            hold(list(batch.payloads) == payloads[first:], "the bytes are the same")
            hold(batch.known.tolist() == list(range(first, 40)), "and the known times")
            hold(list(log.read("b", -1, 9).payloads) == [b"b"], "other sources are untouched")

    def nothing_goes_that_must_stay() -> None:
        with closing(open_log("stay")) as log:
            filled(log)
            hold(log.trim("a", 0) == 0, "nothing is below 0")
            for before in (3, 25, 26):
                let_go(log, before)
                hold(log.end("a").first_offset <= before, f"a record from {before} on went")
            let_go(log, 1_000)
            hold(len(log.read("a", 38, 9)) == 1, "the last record is kept")

    def the_end_does_not_move() -> None:
        with closing(open_log("end")) as log:
            filled(log)
            let_go(log, 1_000)
        with closing(open_log("end")) as log:
            end = log.end("a")
            hold((end.next_offset, end.last_known) == (40, 39), f"the end is {end}")
            hold(log.append("a", [0], [b"x"]) == 40, "offsets go on")
            hold(log.end("a").last_known == 39, "known times go on")
            hold(log.positions("a") == {"s": "39"}, "positions are kept")

    def what_was_let_go_is_refused() -> None:
        with closing(open_log("gone")) as log:
            filled(log)
            let_go(log, 25)
            first = log.end("a").first_offset
            for after in {-1, 0, first - 2}:
                try:
                    log.read("a", after, 5)
                except LogTrimmed as trimmed:
                    hold(trimmed.first == first, "it says where the log begins")
                else:
                    raise LawBroken(f"a read after {after} is refused: the first is {first}")
            hold(len(log.read("a", -1, 0)) == 0, "to read nothing is no mistake")

    def age_and_size_say_what_may_go() -> None:
        with closing(open_log("cut")) as log:
            payloads = filled(log)
            hold(log.cut("a", None, None) == 0, "nothing is asked for")
            hold(log.cut("none", 99, 1) == 0, "an unknown source has nothing")
            for instant in (0, 1, 17, 39):
                hold(log.cut("a", instant, None) <= instant, f"known at {instant} is kept")
            hold(log.cut("a", 30, None) > 0, "old records may go")
            hold(log.cut("a", None, 10**9) == 0, "all of it is small enough")
            cut = log.cut("a", None, sum(map(len, payloads)) // 2)
            hold(0 < cut < 40, f"the older half may go, and not to {cut}")
            hold(log.cut("a", 2, sum(map(len, payloads)) // 2) == cut, "what goes by one goes")

    for check in (
        what_is_kept_is_read_as_before, nothing_goes_that_must_stay, the_end_does_not_move,
        what_was_let_go_is_refused, age_and_size_say_what_may_go,
    ):  # fmt: skip
        yield check.__name__.replace("_", " "), check
