"""Counts and latencies of serving, in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock

from homeostat.core.errors import text_of
from homeostat.serve.latency import Histogram
from homeostat.serve.predictions import Predictions
from homeostat.serve.routing import Route

__all__ = ["ACCEPTED", "Metrics"]

Labels = tuple[tuple[str, str], ...]
ACCEPTED = "accepted"
_POWERS = range(14, 34)  # 16 microseconds to 8.6 seconds, in nanoseconds


class Metrics:
    """What serving counts; every method may be called from any thread.

    >>> metrics = Metrics()
    >>> metrics.request("/health", 200)
    >>> [line for line in metrics.text({}).splitlines() if line.startswith("homeostat_requests")]
    ['homeostat_requests_total{path="/health",status="200"} 1']
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._requests: Counter[Labels] = Counter()
        self._predictions: Counter[Labels] = Counter()
        self._repeated: Counter[Labels] = Counter()
        self._former: Counter[Labels] = Counter()
        self._degraded: Counter[Labels] = Counter()
        self._faults: Counter[Labels] = Counter()
        self._latency: dict[Labels, Histogram] = {}
        self._in_flight: Counter[Labels] = Counter()
        self._held: Counter[Labels] = Counter()
        self._pushed: Counter[Labels] = Counter()
        self._folded: Counter[Labels] = Counter()
        self._backlog: dict[Labels, int] = {}
        self._feeds: dict[Labels, int] = {}
        self.last_faults: dict[str, str] = {}

    def request(self, path: str, status: int) -> None:
        """Count an HTTP request by route and status."""
        with self._lock:
            self._requests[(("path", path), ("status", str(status)))] += 1

    def pushed(self, source: str, result: str, events: int) -> None:
        """Count events that were pushed: accepted, or the reason why they were not."""
        with self._lock:
            self._pushed[(("source", source), ("result", result))] += events

    def refused(self) -> dict[tuple[str, str], int]:
        """Return how many pushed events were turned away so far, by source and reason."""
        with self._lock:
            counted = {
                (dict(told)["source"], dict(told)["result"]): n for told, n in self._pushed.items()
            }
        return {key: events for key, events in counted.items() if key[1] != ACCEPTED}

    def folded(self, source: str, results: Mapping[str, int], waiting: int) -> None:
        """Count what became of records of a source's log, and tell how many wait."""
        with self._lock:
            for result, records in results.items():
                self._folded[(("source", source), ("result", result))] += records
            self._backlog[(("source", source),)] = waiting

    def feed(self, source: str, fails: bool) -> None:
        """Tell whether the feed of a source fails."""
        with self._lock:
            self._feeds[(("source", source),)] = int(fails)

    def fault(self, part: str, error: Exception) -> None:
        """Count a failure that a fallback covered, and keep its text; a `Faults`."""
        kind = type(error).__name__
        with self._lock:
            self._faults[(("part", part), ("error", kind))] += 1
            self.last_faults[part] = f"{kind}: {text_of(error)}"

    def predicted(self, predictions: Predictions) -> None:
        """Count answers by version, arm and degradation, and their latency by component."""
        model = ("model", predictions.model)
        spent = predictions.latency
        with self._lock:
            for arm, version in zip(predictions.arms, predictions.versions, strict=True):
                shown = "" if version is None else str(version)
                self._predictions[(model, ("arm", arm), ("version", shown))] += 1
            for causes in predictions.degraded:
                for cause in causes:
                    self._degraded[(model, ("cause", cause))] += 1
            for component, micros in (
                ("features", spent.features_us),
                ("model", spent.model_us),
                ("total", spent.total_us),
            ):
                labels = (model, ("component", component))
                histogram = self._latency.setdefault(labels, Histogram())
                histogram.add(round(micros * 1000))

    def repeated(self, model: str, requests: int) -> None:
        """Count requests that came again and got the answer they had."""
        if requests:
            with self._lock:
                self._repeated[(("model", model),)] += requests

    def former(self, model: str, field: str, requests: int) -> None:
        """Count requests that have a field by a name of earlier declarations."""
        with self._lock:
            self._former[(("model", model), ("field", field))] += requests

    def in_flight(self, model: str, change: int) -> None:
        """Count a request that begins (+1) or ends (-1)."""
        with self._lock:
            self._in_flight[(("model", model),)] += change

    def flying(self, model: str) -> int:
        """Return how many requests of a model are being answered."""
        return self._in_flight[(("model", model),)]

    def held(self, model: str, change: int) -> None:
        """Count a call that runs on after it was given up (+1), or has ended after all (-1)."""
        with self._lock:
            self._held[(("model", model),)] += change

    def latency(self, model: str, component: str) -> Histogram:
        """Return the latencies of a component: features, model or total."""
        with self._lock:
            found = self._latency.get((("model", model), ("component", component)))
            return Histogram() if found is None else found.merge(Histogram())

    def text(self, routes: Mapping[str, Route]) -> str:
        """Return everything in Prometheus' text format, with the versions now in service."""
        with self._lock:
            lines = [
                *_counter("requests_total", "HTTP requests.", self._requests),
                *_counter("predictions_total", "Answers by arm.", self._predictions),
                *_counter("repeated_requests_total", "Requests that came again.", self._repeated),
                *_counter("former_fields_total",
                          "Requests with a field that was renamed or is gone.", self._former),
                *_counter("degraded_total", "Answers that a failure touched.", self._degraded),
                *_counter("faults_total", "Failures that a fallback covered.", self._faults),
                *_counter("pushed_events_total", "Events pushed, by what became of them.",
                          self._pushed),
                *_counter("folded_records_total", "Records folded, by what became of them.",
                          self._folded),
                *_gauge("backlog_records", "Records that wait to be folded.",
                        self._backlog.items()),
                *_gauge("feed_failing", "Whether the feed of a source fails.", self._feeds.items()),
                *_gauge("in_flight", "Requests being answered.", self._in_flight.items()),
                *_gauge("held_calls", "Calls that run on after their deadline.",
                        self._held.items()),
                *_gauge("model_info", "Versions in service.", _versions(routes)),
                *_gauge("challenger_share", "Share of the challenger.", _shares(routes)),
                *_histograms(self._latency),
            ]  # fmt: skip
        return "\n".join(lines) + "\n"


def _versions(routes: Mapping[str, Route]) -> Iterator[tuple[Labels, int]]:
    for model, route in routes.items():
        for role in ("champion", "challenger", "previous"):
            arm = getattr(route, role)
            if arm is not None:
                yield (("model", model), ("role", role), ("version", str(arm.version))), 1


def _shares(routes: Mapping[str, Route]) -> Iterator[tuple[Labels, float]]:
    for model, route in routes.items():
        yield (("model", model),), route.share if route.challenger is not None else 0.0


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP homeostat_{name} {meaning}"
    yield f"# TYPE homeostat_{name} {kind}"


def _counter(name: str, meaning: str, values: Counter[Labels]) -> Iterator[str]:
    yield from _head(name, "counter", meaning)
    for labels, value in sorted(values.items()):
        yield f"homeostat_{name}{_text(labels)} {value}"


def _gauge(name: str, meaning: str, values: Iterable[tuple[Labels, float]]) -> Iterator[str]:
    yield from _head(name, "gauge", meaning)
    for labels, value in sorted(values):
        yield f"homeostat_{name}{_text(labels)} {value}"


def _histograms(values: Mapping[Labels, Histogram]) -> Iterator[str]:
    name = "latency_seconds"
    yield from _head(name, "histogram", "Time spent on a batch of requests, by component.")
    for labels, histogram in sorted(values.items(), key=lambda item: item[0]):
        for nanoseconds, count in histogram.cumulative(_POWERS):
            bound = (*labels, ("le", repr(nanoseconds / 1e9)))
            yield f"homeostat_{name}_bucket{_text(bound)} {count}"
        yield f"homeostat_{name}_bucket{_text((*labels, ('le', '+Inf')))} {histogram.count}"
        yield f"homeostat_{name}_sum{_text(labels)} {histogram.total / 1e9!r}"
        yield f"homeostat_{name}_count{_text(labels)} {histogram.count}"


def _text(labels: Labels) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}"
