"""What one prediction costs: python benchmarks/serve_predict.py [--calls 2000] [--requests 2000]

A system of the size of the flights example: five views with 24 stored features, eight request
fields, LightGBM with 200 trees, LMDB. Prints microseconds by component for batches of 1 and 5, and
the round trip to a server on loopback. Takes about half a minute.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import count as counter
from pathlib import Path
from time import perf_counter_ns
from typing import Annotated, Any

import numpy as np
import polars as pl

import homeostat as hs
from homeostat import col, count, last, mean, share
from homeostat.adapters.lmdb import LmdbStore
from homeostat.core.clock import ManualClock, from_micros
from homeostat.core.ids import id_digests
from homeostat.features.assemble import FeaturePlan
from homeostat.features.fold import ViewFold
from homeostat.serve.http import Application
from homeostat.serve.metrics import Metrics
from homeostat.serve.predictions import Predictions
from homeostat.serve.predictor import Predictor
from homeostat.serve.routing import Arm, Route
from homeostat.serve.server import serving
from homeostat.serve.service import LocalService, ServiceParts
from homeostat.train.dataset import Sample
from homeostat.train.fit import fit
from homeostat.train.lineage import Lineage
from homeostat.train.package import Origin, Package
from homeostat.train.servable import Servable

HOUR = 3_600_000_000
START = 1_372_636_800_000_000  # 2013-07-01T00:00:00Z
ORIGINS = ("EWR", "JFK", "LGA")
CARRIERS = ("9E", "AA", "B6", "DL", "EV", "FL", "MQ", "UA", "US", "VX", "WN")
DESTINATIONS = tuple(f"D{i:02}" for i in range(100))


class Schedule(hs.Event):
    """A flight is due to leave."""

    flight_id: str
    scheduled_at: hs.Timestamp
    origin: str
    destination: str
    carrier: str
    tail_number: Annotated[str | None, hs.Personal]
    distance: float
    hour: int
    weekday: int
    month: int
    minutes_planned: float | None


class Departure(hs.Event):
    """A plane has left the gate."""

    flight_id: str
    happened_at: hs.Timestamp
    origin: str
    destination: str
    carrier: str
    tail_number: str | None
    delay: float


class Weather(hs.Event):
    """An observation."""

    observation: str
    happened_at: hs.Timestamp
    origin: str
    wind: float
    rain: float
    visibility: float


def per_hour(distance: Any, minutes: Any) -> Any:
    """Return the planned speed."""
    return distance / minutes * 60


def declared() -> hs.System:
    """Return a system of the size of the flights example."""
    schedule = hs.EventSource("schedule", Schedule, event_id="flight_id", event_time="scheduled_at")
    departures = hs.EventSource(
        "departures", Departure, event_id="flight_id", event_time="happened_at"
    )
    weather = hs.EventSource("weather", Weather, event_id="observation", event_time="happened_at")
    late = col("delay") > 15
    origin = hs.Entity("origin", key="origin")
    windows = (
        mean("delay").over("1h", "3h", "6h"),
        share(late).named("late").over("1h", "3h", "6h"),
        count().over("1h", "3h"),
    )
    views = (
        hs.FeatureView("airport", origin, departures, windows),
        hs.FeatureView("line", hs.Entity("line", key="carrier"), departures, windows[:2]),
        hs.FeatureView(
            "route", hs.Entity("route", key=("origin", "destination")), departures,
            (mean("delay").over("1d", "7d"), count().over("1d")),
        ),
        hs.FeatureView(
            "aircraft", hs.Entity("aircraft", key="tail_number"), departures,
            (last("delay").over("1d"), mean("delay").over("1d")),
        ),
        hs.FeatureView(
            "weather_at", origin, weather,
            (last("wind").over("3h"), last("rain").over("3h"), last("visibility").over("3h"),
             mean("wind").over("1d"), mean("rain").over("1d")),
        ),
    )  # fmt: skip
    label = hs.Label(
        "late", predicts=schedule, outcome=departures, join_on="flight_id", value=late,
        delay="12h", when_absent=True,
    )  # fmt: skip
    speed = hs.on_demand("distance", "minutes_planned")(per_hour)
    model = hs.Model(
        "late",
        features=(
            *(ref for view in views for ref in view.all()),
            "distance", "hour", "weekday", "month", "minutes_planned", "carrier", "origin", speed,
        ),
        label=label,
        estimator=hs.Estimator(
            "lightgbm:LGBMClassifier", {"n_estimators": 200, "num_leaves": 31}
        ),
        split=hs.Split(validation="7d", test="7d"),
        requirements=hs.Requirements(false_positive_cost=1.0, false_negative_cost=3.0),
    )  # fmt: skip
    deployment = hs.Deployment(
        model=model, rollout=(hs.Shadow("1d"),), degradation=hs.Degradation(score=0.2)
    )
    return hs.System(
        "bench", sources=(schedule, departures, weather), views=views, models=(model,),
        deployments=(deployment,),
    )  # fmt: skip


def departures_frame(n: int, random: np.random.Generator) -> pl.DataFrame:
    """Return n departures over two days."""
    at = np.sort(random.integers(START, START + 48 * HOUR, n))
    ids = [f"F{i}" for i in range(n)]
    return pl.DataFrame(
        {
            "flight_id": ids,
            "origin": random.choice(ORIGINS, n),
            "destination": random.choice(DESTINATIONS, n),
            "carrier": random.choice(CARRIERS, n),
            "tail_number": [f"N{i}" for i in random.integers(0, 800, n)],
            "delay": random.normal(10.0, 30.0, n).round(),
        }
    ).with_columns(*_system_columns(at, ids), happened_at=_instants(at))


def weather_frame(random: np.random.Generator) -> pl.DataFrame:
    """Return two days of hourly observations."""
    rows = [(START + h * HOUR, origin) for h in range(48) for origin in ORIGINS]
    at = np.array([instant for instant, _ in rows])
    ids = [f"{origin}{instant}" for instant, origin in rows]
    return pl.DataFrame(
        {
            "observation": ids,
            "origin": [origin for _, origin in rows],
            **{name: random.random(len(rows)) for name in ("wind", "rain", "visibility")},
        }
    ).with_columns(*_system_columns(at, ids), happened_at=_instants(at))


def _instants(micros: Any) -> pl.Series:
    return pl.Series(micros).cast(pl.Datetime("us", "UTC"))


def _system_columns(at: Any, ids: list[str]) -> list[pl.Series]:
    return [
        pl.Series("_offset", np.arange(len(at))),
        _instants(at).alias("_known_time"),
        _instants(at).alias("_event_time"),
        pl.Series("_id", ids),
        pl.Series("_tie", id_digests(ids)),
        pl.Series("_too_late", np.zeros(len(at), bool)),
    ]


def folded(system: hs.System, folder: Path, random: np.random.Generator) -> LmdbStore:
    """Return a store with two days of events of every view."""
    store = LmdbStore(folder, sync=False)
    frames = {"departures": departures_frame(2000, random), "weather": weather_frame(random)}
    with store.writer() as writer:
        for view in system.views:
            events = frames[view.source.name]
            fold = ViewFold(view)
            fold.apply(writer, fold.prepare(events), 0, events.height)
        for name, events in frames.items():
            writer.put(f"offset/{name}".encode(), (events.height - 1).to_bytes(8, "big"))
    return store


def trained(system: hs.System, random: np.random.Generator) -> Servable:
    """Return a model of 200 trees on noise with a little signal."""
    model = system.models[0]
    plan = FeaturePlan(system, model)
    samples = []
    for n in (4000, 1000):
        requests = [request(i, random) for i in range(n)]
        columns = {name: [r[name] for r in requests] for name in plan.fields}
        views = {v.name: random.normal(10.0, 20.0, (n, len(v.features()))) for v in plan.views}
        features = plan.assemble(columns, views)
        odds = np.nansum(features.matrix[:, :8], axis=1) / 60 + random.normal(0, 1, n)
        samples.append(Sample(features, odds > np.median(odds)))
    fitted = fit(model, samples[0], samples[1], threads=1)
    print(f"model: {fitted.rounds} trees, {len(plan.names)} features")
    origin = Origin({}, {}, Lineage.of(system, model, START, {}, {}))
    package = Package.of(fitted, model.name, 0.3, origin, metrics={})
    return Servable(package)


def request(number: int, random: np.random.Generator) -> dict[str, Any]:
    """Return a flight that is due at the end of the two days."""
    return {
        "flight_id": f"R{number}",
        "scheduled_at": from_micros(START + 48 * HOUR),
        "origin": ORIGINS[number % 3],
        "destination": str(random.choice(DESTINATIONS)),
        "carrier": str(random.choice(CARRIERS)),
        "tail_number": f"N{random.integers(0, 900)}",
        "distance": float(random.integers(100, 4000)),
        "hour": int(random.integers(0, 24)),
        "weekday": int(random.integers(0, 7)),
        "month": 7,
        "minutes_planned": float(random.integers(40, 400)),
    }


def in_process(
    predictor: Predictor, store: LmdbStore, requests: list[dict[str, Any]], calls: int
) -> None:
    """Print microseconds per call by component, medians and 99th percentiles."""
    at = START + 48 * HOUR
    print(f"{'in process':24}{'features':>14}{'model':>14}{'call, p50/p99 us':>20}")
    for title, route in ROUTES.items():
        for size in (1, 5):
            kept: list[Predictions] = []
            whole: list[int] = []
            for place in range(calls):
                first = place * size % (len(requests) - size)
                asked = requests[first : first + size]
                ids = [f"p{place}_{i}" for i in range(size)]
                began = perf_counter_ns()
                with store.reader() as reader:
                    kept.append(predictor.predict(reader, asked, at, route, ids))
                whole.append(perf_counter_ns() - began)
            features = np.median([p.latency.features_us for p in kept])
            model = np.median([p.latency.model_us for p in kept])
            p50, p99 = np.percentile(whole, [50, 99]) / 1000
            print(f"{title + f', batch {size}':24}{features:14.1f}{model:14.1f}"
                  f"{p50:12.1f} /{p99:7.1f}")  # fmt: skip
    began = perf_counter_ns()
    frame = pl.concat([p.frame() for p in kept[:200]])
    print(f"frames: {(perf_counter_ns() - began) / 1000 / 200:.0f} us each alone", end=", ")
    from homeostat.serve.predictions import frame_of

    began = perf_counter_ns()
    frame = frame_of(kept, predictor.sources)
    print(f"{(perf_counter_ns() - began) / 1000 / frame.height:.1f} us per row in one of {calls}")


ROUTES: dict[str, Route] = {}


def over_http(address: str, requests: list[dict[str, Any]], total: int) -> None:
    """Print the round trip of one request, alone and from eight connections at once."""
    host = address.removeprefix("http://")
    bodies = [{**r, "scheduled_at": r["scheduled_at"].isoformat()} for r in requests]
    serial = counter()  # a request that comes again is not measured: each has an id of its own

    def ask(path: str, method: str, n: int, offset: int = 0) -> list[int]:
        connection = HTTPConnection(host)
        spent = []
        for place in range(n):
            body = None
            if method == "POST":
                new = {"flight_id": f"N{next(serial)}"}
                body = json.dumps({**bodies[(offset + place) % len(bodies)], **new})
            began = perf_counter_ns()
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
            spent.append(perf_counter_ns() - began)
            if response.status != 200:
                raise SystemExit(f"{response.status} {content!r}")
        connection.close()
        return spent

    def show(title: str, measure: Callable[[], list[int]]) -> None:
        began = perf_counter_ns()
        spent = measure()
        rate = len(spent) / (perf_counter_ns() - began) * 1e9
        p50, p99 = np.percentile(spent, [50, 99]) / 1000
        print(f"{title:38}{p50:10.0f} /{p99:8.0f} us{rate:10.0f} per second")

    print(f"{'round trip, p50 / p99':38}")
    show("GET /health, 1 connection", lambda: ask("/health", "GET", total))
    show("POST /predict, 1 connection", lambda: ask("/predict/late", "POST", total))
    show("  with reasons", lambda: ask("/predict/late?reasons=true", "POST", total // 10))

    def crowd() -> list[int]:
        with ThreadPoolExecutor(8) as pool:
            parts = [
                pool.submit(ask, "/predict/late", "POST", total // 8, i * 100) for i in range(8)
            ]
            return [spent for part in parts for spent in part.result()]

    show("POST /predict, 8 connections", crowd)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--client", default="", help="only ask a server at this address")
    chosen = parser.parse_args()
    random = np.random.default_rng(0)
    requests = [request(i, random) for i in range(500)]
    if chosen.client:
        over_http(chosen.client, requests, chosen.requests)
        return
    system = declared()
    with tempfile.TemporaryDirectory() as folder:
        store = folded(system, Path(folder), random)
        arm = Arm(1, trained(system, random), 0.3)
        ROUTES["champion"] = Route(champion=arm)
        ROUTES["with shadow"] = Route(champion=arm, challenger=arm, shadow=True)
        predictor = Predictor(system, system.deployments[0])
        predictor.warm(ROUTES["champion"])
        in_process(predictor, store, requests, chosen.calls)
        numbers = counter()
        metrics = Metrics()
        service = LocalService(
            ServiceParts(
                system=system,
                predictors={"late": predictor},
                routes=lambda model: ROUTES["champion"],
                store=store,
                clock=ManualClock(START + 48 * HOUR),
                ids=lambda: f"h{next(numbers)}",
                log=_NoLog(),
                metrics=metrics,
            )
        )
        with serving(Application(system, service, metrics)) as address:
            client = [sys.executable, __file__, "--client", address]
            subprocess.run([*client, "--requests", str(chosen.requests)], check=True)
        spent = metrics.latency("late", "total")
        print(f"server's own view: p50 {spent.percentile(0.5) / 1000:.0f} us, "
              f"p99 {spent.percentile(0.99) / 1000:.0f} us")  # fmt: skip
        store.close()


class _NoLog:
    def append(self, predictions: Predictions) -> None:
        """Forget the predictions."""

    def require_durable(self, model: str, request_ids: Sequence[str]) -> None:
        """Do nothing."""

    def trouble(self) -> str:
        """Say nothing."""
        return ""


if __name__ == "__main__":
    main()
