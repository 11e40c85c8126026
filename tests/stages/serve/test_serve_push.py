"""Events are pushed over real sockets: each has its result, and back-pressure has its wait."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Any

import httpx
import pytest

from homeostat.ingest.log import PayloadTooLarge
from homeostat.serve.http import Application, Limits
from homeostat.serve.metrics import Metrics
from homeostat.serve.seam import Behind, Ingested
from homeostat.serve.server import serving
from homeostat.testing.payments import Bench, tap

MakesBench = Callable[..., Bench]
LINES = {"content-type": "application/x-ndjson"}
PACKED = {"content-encoding": "gzip"}


@dataclass
class Kept:
    """A log in memory that may be slow, full, or of small records."""

    rows: list[bytes] = field(default_factory=list)
    appends: int = 0
    behind: bool = False
    largest: int = 10_000
    hold: Event | None = None
    entered: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    def __call__(self, source: str, payloads: Sequence[bytes]) -> Ingested:
        self.entered.set()
        if self.hold is not None:
            self.hold.wait()
        if self.behind:
            raise Behind(source, 900, 400, 7)
        for payload in payloads:
            if len(payload) > self.largest:
                raise PayloadTooLarge(source, len(payload), self.largest)
        with self.lock:
            first = len(self.rows)
            self.rows += payloads
            self.appends += 1
            return Ingested(source, first, len(payloads))


@contextmanager
def pushing(
    bench: MakesBench, kept: Kept, limits: Limits | None = None
) -> Iterator[tuple[httpx.Client, Metrics]]:
    made = bench()
    app = Application(
        made.system, made.service(ingest=kept), made.metrics, limits=limits or Limits()
    )
    with (
        serving(app) as address,
        httpx.Client(base_url=address, trust_env=False, timeout=30) as client,
    ):
        yield client, made.metrics


def event(name: str, **changes: Any) -> bytes:
    return json.dumps(tap(tap_id=name, **changes)).encode()


def test_a_half_bad_body_keeps_its_good_half(bench: MakesBench) -> None:
    kept = Kept()
    good, bad = [event("a"), event("b")], [b'{"tap_id": "x"', event("y", amount="much"), b"7"]
    with pushing(bench, kept) as (client, metrics):
        body = b"\n".join([bad[0], good[0], bad[1], b"", good[1], bad[2]])
        answer = client.post("/events/taps", content=body, headers=LINES)
        text = metrics.text({})
    assert answer.status_code == 202
    found = answer.json()
    assert (found["first_offset"], found["events"]) == (0, 2)
    assert [(r["index"], r["reason"]) for r in found["refused"]] == [
        (0, "malformed"), (2, "invalid_field:amount"), (4, "malformed"),
    ]  # fmt: skip
    assert "number" in found["refused"][1]["detail"] or "float" in found["refused"][1]["detail"]
    assert kept.rows == good
    assert 'homeostat_pushed_events_total{source="taps",result="accepted"} 2' in text
    assert 'homeostat_pushed_events_total{source="taps",result="malformed"} 2' in text


def test_a_body_without_one_good_event_is_refused(bench: MakesBench) -> None:
    kept = Kept()
    with pushing(bench, kept) as (client, _):
        answer = client.post("/events/taps", json=[{"tap_id": "a"}, {}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "refused")
    assert [p["index"] for p in answer.json()["error"]["problems"]] == [0, 1]
    assert not kept.rows


@pytest.mark.parametrize("lines", [True, False])
def test_packed_bodies_are_unpacked(bench: MakesBench, lines: bool) -> None:
    kept, rows = Kept(), [event(str(i)) for i in range(300)]
    body = b"\n".join(rows) if lines else b"[" + b",".join(rows) + b"]"
    members = gzip.compress(body[:1000]) + gzip.compress(body[1000:])
    with pushing(bench, kept) as (client, _):
        headers = {**(LINES if lines else {}), **PACKED}
        answer = client.post("/events/taps", content=members, headers=headers)
        assert answer.json()["events"] == 300
        assert kept.rows == rows
        for odd, status in (
            (b"x" * 20, 400), (members[:-3], 400), (members + b"left over", 400),
            (gzip.compress(b" " * (9 << 20)), 413),
        ):  # fmt: skip
            assert client.post("/events/taps", content=odd, headers=headers).status_code == status
        other = client.post("/events/taps", content=b"{}", headers={"content-encoding": "br"})
        assert (other.status_code, "allowed: gzip" in other.text) == (415, True)
    assert kept.rows == rows


def test_back_pressure_says_when_to_come_again(bench: MakesBench) -> None:
    kept = Kept(behind=True)
    with pushing(bench, kept) as (client, metrics):
        answer = client.post("/events/taps", json=tap())
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        said = answer.json()["error"]
        assert said["code"] == "behind"
        assert "900 records wait to be folded; allowed: 400; nothing" in said["message"]
        kept.behind = False
        assert client.post("/events/taps", json=tap()).status_code == 202
        assert 'path="/events/{source}",status="429"} 1' in metrics.text({})


def test_bodies_that_are_held_are_bounded(bench: MakesBench) -> None:
    kept = Kept(hold=Event())
    body = event("a", shop="x" * 3_000)
    with (
        pushing(bench, kept, Limits(held_bytes=5_000)) as (client, _),
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(client.post, "/events/taps", content=body)
        kept.entered.wait()
        second = client.post("/events/taps", content=body)
        small = pool.submit(client.post, "/events/taps", content=event("b"))
        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        assert kept.hold is not None
        kept.hold.set()
        assert [first.result().status_code, small.result().status_code] == [202, 202]
        assert client.post("/events/taps", content=body).status_code == 202


def test_too_large_is_413_and_harms_nobody_beside(bench: MakesBench) -> None:
    kept = Kept(hold=Event(), largest=2_000)
    large = event("large", shop="x" * 3_000)
    with (
        pushing(bench, kept, Limits(events_bytes=50_000)) as (client, _),
        ThreadPoolExecutor(4) as pool,
    ):
        over = client.post("/events/taps", content=b"[" + b" " * 60_000 + b"]")
        assert over.status_code == 413
        first = pool.submit(client.post, "/events/taps", content=event("first"))
        kept.entered.wait()
        asked = [pool.submit(client.post, "/events/taps", content=x) for x in (large, event("b"))]
        kept.hold.set()  # type: ignore[union-attr]
        assert [one.result().status_code for one in asked] == [413, 202]
        assert first.result().status_code == 202
    assert sorted(json.loads(row)["tap_id"] for row in kept.rows) == ["b", "first"]


def test_all_that_wait_are_appended_at_once_each_at_its_own_place(bench: MakesBench) -> None:
    kept = Kept(hold=Event())
    with pushing(bench, kept) as (client, _), ThreadPoolExecutor(16) as pool:
        first = pool.submit(client.post, "/events/taps", content=event("first"))
        kept.entered.wait()
        bodies = [[tap(tap_id=f"{i}-{j}") for j in range(1 + i % 3)] for i in range(15)]
        asked = [pool.submit(client.post, "/events/taps", json=body) for body in bodies]
        while client.get("/health").status_code != 200 or not all(one.running() for one in asked):
            pass
        kept.hold.set()  # type: ignore[union-attr]
        found = [one.result().json() for one in asked]
        assert first.result().json()["first_offset"] == 0
    for body, told in zip(bodies, found, strict=True):
        cut = kept.rows[told["first_offset"] : told["first_offset"] + told["events"]]
        assert [json.loads(row)["tap_id"] for row in cut] == [e["tap_id"] for e in body]
    assert len(kept.rows) == 1 + sum(map(len, bodies))
    assert kept.appends < 16


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_sends_a_file(bench: MakesBench, tmp_path: Path) -> None:
    kept, file = Kept(), tmp_path / "taps.ndjson.gz"
    rows = [event(str(i)) for i in range(2_000)]
    file.write_bytes(gzip.compress(b"\n".join(rows)))
    with pushing(bench, kept, Limits(events_bytes=2 << 20)) as (client, _):
        words = ["curl", "-sS", "--noproxy", "*", f"{client.base_url}/events/taps"]
        words += ["-H", "Content-Type: application/x-ndjson", "-H", "Content-Encoding: gzip"]
        told = subprocess.run(
            [*words, "--data-binary", f"@{file}"], capture_output=True, check=True, timeout=60
        )
    assert json.loads(told.stdout)["events"] == 2_000
    assert kept.rows == rows


def test_the_interface_is_described(bench: MakesBench) -> None:
    with pushing(bench, Kept()) as (client, _):
        found = client.get("/openapi.json").json()
    push = found["paths"]["/events/taps"]["post"]
    assert set(push["responses"]) == {"202", "400", "404", "413", "415", "422", "429"}
    assert "Retry-After" in push["responses"]["429"]["headers"]
    assert set(push["requestBody"]["content"]) == {"application/json", "application/x-ndjson"}
    schema = push["responses"]["202"]["content"]["application/json"]["schema"]["$ref"]
    properties = found["components"]["schemas"][schema.rpartition("/")[2]]["properties"]
    assert set(properties) == {"source", "first_offset", "events", "refused"}
