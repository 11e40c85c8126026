"""Alerts open once and close once, whatever the findings do between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import homeostat as hs
from homeostat.core.decisions import Decision
from homeostat.deploy.state import replayed
from homeostat.monitor.findings import Finding, decide_alerts, open_alerts
from homeostat.monitor.freshness import judge_freshness

HOUR = 3_600_000_000


class Reading(hs.Event):
    """A sensor was read."""

    reading_id: str
    read_at: hs.Timestamp


readings = hs.EventSource(
    "readings", Reading, event_id="reading_id", event_time="read_at", lateness="1d"
)
statuses = st.sampled_from(["found", "clear", "not judged"])
steps = st.lists(
    st.fixed_dictionaries({}, optional={"drift": statuses, "quality": statuses}), max_size=20
)


@given(steps)
def test_alerts_alternate_and_follow_the_last_judgement(script: list[dict[str, str]]) -> None:
    journal: list[Decision] = []
    last: dict[str, str] = {}
    for now, findings in enumerate(script):
        given_now = [
            Finding(kind, "late", status, f"{kind} is {status}")  # type: ignore[arg-type]
            for kind, status in findings.items()
        ]
        decided = decide_alerts(open_alerts(journal), given_now, now)
        assert decided == decide_alerts(open_alerts(journal), given_now, now)
        journal.extend(decided)
        last |= {kind: status for kind, status in findings.items() if status != "not judged"}
        expected = {f"{kind}/late" for kind, status in last.items() if status == "found"}
        assert set(open_alerts(journal)) == expected
    for key in ("drift/late", "quality/late"):
        told = [d.action for d in journal if d.evidence["key"] == key]
        assert told == [("alert", "clear")[i % 2] for i in range(len(told))]
    assert replayed(journal) == {}, "alerts are no rollout"


def test_a_clear_says_since_when() -> None:
    found = Finding("freshness", "readings", "found", "silent", {"silent_us": 5})
    (alert,) = decide_alerts({}, [found], 7)
    assert (alert.model, alert.action, alert.reason) == ("readings", "alert", "silent")
    assert alert.evidence == {"key": "freshness/readings", "kind": "freshness", "silent_us": 5}
    over = Finding("freshness", "readings", "clear", "spoke")
    (clear,) = decide_alerts(open_alerts([alert]), [over], 9)
    assert (clear.action, clear.evidence["since"]) == ("clear", 7)


@pytest.mark.parametrize(
    ("last_known", "status"),
    [(None, "not judged"), (9 * HOUR, "clear"), (8 * HOUR, "clear"), (8 * HOUR - 1, "found"),
     (99 * HOUR, "clear")],
)  # fmt: skip
def test_a_silent_source_is_found_beyond_the_bound(last_known: int | None, status: str) -> None:
    finding = judge_freshness(hs.Freshness(readings, "2h"), last_known, 10 * HOUR)
    assert (finding.status, finding.key) == (status, "freshness/readings")
    if status == "found":
        assert finding.reason.endswith("longer than 2h")


def test_the_alert_on_failing_trainings_has_the_latest_cause() -> None:
    made: list[Decision] = []
    for number, cause in enumerate(("one", "two", "three")):
        body = {"failed": {"message": cause}}
        made.append(Decision(number, "fraud", "reject", f"failed: {cause}", None, body))
        finding = Finding("training", "fraud", "found", f"failed: {cause}; the fallback answers")
        made += decide_alerts(open_alerts(made), [finding], number)
        (alert,) = open_alerts(made).values()
        assert (alert.at, alert.reason) == (0, f"failed: {cause}; the fallback answers")
