"""The laws of an event log, as checks that anybody can run on an adapter of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from homeostat.core.errors import HomeostatError
from homeostat.ingest.log import Advance, EventLog, LogEnd, PositionTaken
from homeostat.testing.laws import LawBroken, hold

__all__ = ["event_log_checks"]


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
