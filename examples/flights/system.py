"""Will this flight arrive 15 or more minutes late, or never? Asked at its scheduled departure.

The events are a year of flights out of New York (`data.py`). Two traps are worth a look:

- More than half of all planes leave before schedule, so when a flight is asked about, its own
  departure is often known, and would be in its own airport's recent past. Every view leaves out
  the asked flight, as is the default; `homeostat check` warns of `exclude_own=False`. Leaving it in
  gives an AUC that no live system could reach.
- Only flights that were cancelled lack a tail number. Windows of a day keep "no known aircraft"
  from meaning "will not leave": most aircraft have no event in the last day now and then.
"""

from __future__ import annotations

from typing import Any

import homeostat as hs
from homeostat import col, count, last, mean, share, time_since_last


class Schedule(hs.Event):
    """A flight is due to leave: the request."""

    flight_id: str
    scheduled_at: hs.Timestamp
    carrier: str
    flight_number: int
    origin: str
    dest: str
    tail_number: str | None
    scheduled_minutes: float
    minute_of_day: int
    weekday: int


class Departure(hs.Event):
    """A plane has left the gate."""

    flight_id: str
    carrier: str
    origin: str
    dest: str
    tail_number: str | None
    departed_at: hs.Timestamp
    delay_minutes: float


class Arrival(hs.Event):
    """A plane has landed where it was going."""

    flight_id: str
    carrier: str
    flight_number: int
    origin: str
    dest: str
    tail_number: str | None
    arrived_at: hs.Timestamp
    arrival_delay_minutes: float
    scheduled_minutes: float


class Weather(hs.Event):
    """An hour's observation at an airport, known when the hour is over."""

    observation_id: str
    origin: str
    observed_at: hs.Timestamp
    temperature: float | None
    dew_point: float | None
    wind_direction: float | None
    wind_speed: float | None
    precipitation: float | None
    pressure: float | None
    visibility: float | None


schedule = hs.EventSource(
    "schedule", Schedule, event_id="flight_id", event_time="scheduled_at", lateness="2d"
)
departures = hs.EventSource(
    "departures", Departure, event_id="flight_id", event_time="departed_at", lateness="2d"
)
arrivals = hs.EventSource(
    "arrivals", Arrival, event_id="flight_id", event_time="arrived_at", lateness="2d"
)
weather = hs.EventSource(
    "weather",
    Weather,
    event_id="observation_id",
    event_time="observed_at",
    delay="1h",
    lateness="1d",
)

airport = hs.Entity("airport", key="origin")
carrier_at_airport = hs.Entity("carrier_at_airport", key=("carrier", "origin"))
destination = hs.Entity("destination", key="dest")
route = hs.Entity("route", key=("origin", "dest"))
flight = hs.Entity("flight", key=("carrier", "flight_number"))
aircraft = hs.Entity("aircraft", key="tail_number")

airport_departures = hs.FeatureView(
    "airport_departures",
    entity=airport,
    source=departures,
    aggregations=(
        share(col("delay_minutes") >= 15).named("late_share").over("2h", "6h"),
        count().over("3h", "6h"),
    ),
)
airport_schedule = hs.FeatureView(
    "airport_schedule", airport, schedule, aggregations=(count().over("3h", "6h"),)
)
carrier_departures = hs.FeatureView(
    "carrier_departures",
    carrier_at_airport,
    departures,
    aggregations=(mean("delay_minutes").over("3h"), count().over("6h")),
)
carrier_schedule = hs.FeatureView(
    "carrier_schedule", carrier_at_airport, schedule, aggregations=(count().over("6h"),)
)
destination_arrivals = hs.FeatureView(
    "destination_arrivals",
    destination,
    arrivals,
    aggregations=(mean("arrival_delay_minutes").over("3h", "1d"),),
)
route_arrivals = hs.FeatureView(
    "route_arrivals",
    route,
    arrivals,
    aggregations=(mean("arrival_delay_minutes").over("1d"),),
)
flight_history = hs.FeatureView(
    "flight_history",
    flight,
    arrivals,
    aggregations=(mean("arrival_delay_minutes").over("28d"),),
)
aircraft_arrivals = hs.FeatureView(
    "aircraft_arrivals",
    aircraft,
    arrivals,
    aggregations=(
        last("arrival_delay_minutes").over("1d"),
        last("scheduled_minutes").over("1d"),
        time_since_last().over("1d"),
    ),
)
aircraft_departures = hs.FeatureView(
    "aircraft_departures",
    aircraft,
    departures,
    aggregations=(time_since_last().over("1d"),),
)
airport_weather = hs.FeatureView(
    "airport_weather",
    airport,
    weather,
    aggregations=(
        last("temperature").over("6h"),
        last("dew_point").over("6h"),
        last("wind_direction").over("6h"),
        last("wind_speed").over("6h"),
        last("pressure").over("6h"),
        last("visibility").over("6h"),
        mean("precipitation").over("6h"),
    ),
)


@hs.on_demand(airport_schedule["count_3h"], airport_departures["count_3h"])
def airport_backlog_3h(scheduled: Any, departed: Any) -> Any:
    """Flights of the last three hours that are due and have not left."""
    return scheduled - departed


@hs.on_demand(airport_schedule["count_6h"], airport_departures["count_6h"])
def airport_backlog_6h(scheduled: Any, departed: Any) -> Any:
    """Flights of the last six hours that are due and have not left."""
    return scheduled - departed


@hs.on_demand(carrier_schedule["count_6h"], carrier_departures["count_6h"])
def carrier_backlog_6h(scheduled: Any, departed: Any) -> Any:
    """The carrier's flights of the last six hours that are due here and have not left."""
    return scheduled - departed


@hs.on_demand(
    aircraft_arrivals["time_since_last_1d"], aircraft_arrivals["scheduled_minutes_last_1d"]
)
def ground_minutes(seconds_since_arrival: Any, outbound_minutes: Any) -> Any:
    """Minutes at the gate, if the aircraft flew straight back from its last destination."""
    return seconds_since_arrival / 60.0 - outbound_minutes


late = hs.Label(
    "late",
    predicts=schedule,
    outcome=arrivals,
    join_on="flight_id",
    value=col("arrival_delay_minutes") >= 15,
    delay="36h",
    when_absent=True,  # cancelled and diverted flights never arrive as asked
)

boosting = hs.Estimator(
    "lightgbm:LGBMClassifier",
    {
        "n_estimators": 300,
        "learning_rate": 0.08,
        "num_leaves": 31,
        "min_child_samples": 300,
        "colsample_bytree": 0.5,
        "subsample": 0.8,
        "subsample_freq": 1,
        "reg_lambda": 10.0,
        "max_bin": 127,
    },
)
requirements = hs.Requirements(
    false_positive_cost=1,  # a warning for nothing
    false_negative_cost=3,  # nobody warned
    latency_p99="50ms",
    freshness="15m",
    gates=(
        hs.Gate("auc", at_least=0.70),
        hs.Gate("auc", within=0.01),
        hs.Gate("cost", within=0.02),
        hs.Gate("calibration_error", at_most=0.08),
        hs.Gate("auc", at_least=0.60, slices=("origin", "carrier"), slice_rows=300),
    ),
    slices=("origin", "carrier"),
)
split = hs.Split(validation="14d", test="7d")
on_the_ticket = ("carrier", "origin", "dest", "scheduled_minutes", "minute_of_day", "weekday")

late_arrival = hs.Model(
    "late_arrival",
    features=(
        *on_the_ticket,
        airport_departures["late_share_2h"],
        airport_departures["late_share_6h"],
        airport_backlog_3h,
        airport_backlog_6h,
        carrier_departures["delay_minutes_mean_3h"],
        carrier_backlog_6h,
        *destination_arrivals.all(),
        *route_arrivals.all(),
        *flight_history.all(),
        aircraft_arrivals["arrival_delay_minutes_last_1d"],
        ground_minutes,
        *aircraft_departures.all(),
        *airport_weather.all(),
    ),
    label=late,
    estimator=boosting,
    split=split,
    requirements=requirements,
    seed=2013,
)
without_streaming = hs.Model(
    "without_streaming",
    features=on_the_ticket,
    label=late,
    estimator=boosting,
    split=split,
    requirements=hs.Requirements(false_positive_cost=1, false_negative_cost=3),
    seed=2013,
)

system = hs.System(
    "flights",
    sources=(schedule, departures, arrivals, weather),
    views=(
        airport_departures,
        airport_schedule,
        carrier_departures,
        carrier_schedule,
        destination_arrivals,
        route_arrivals,
        flight_history,
        aircraft_arrivals,
        aircraft_departures,
        airport_weather,
    ),
    models=(late_arrival, without_streaming),
    deployments=(
        hs.Deployment(
            model=late_arrival,
            rollout=(hs.Shadow("3d"), hs.Canary((0.1, 0.5), every="4d")),
            guards=(
                hs.Guard("error_rate", at_most=0.02),
                hs.Guard("auc", within=0.15, rows=200),
                hs.Guard("cost", within=0.25, rows=200),
            ),
            degradation=hs.Degradation(
                score=0.24,  # the share of late flights in a quiet month
                model_broken=("previous", "score"),
                overloaded=("score",),
                store_down="missing",
            ),
            deadline="50ms",
        ),
    ),
    monitors=(
        hs.Freshness(departures, "12h"),
        hs.Freshness(weather, "6h"),
        hs.Drift(late_arrival, psi=0.25, features=5, window="14d"),
        hs.Quality(late_arrival, "auc", worse_by=0.04, window="14d", rows=5000),
        hs.Quality(late_arrival, "calibration_error", worse_by=0.03, window="14d", rows=5000),
        hs.Skew(late_arrival, share=0.05),
    ),
    retraining=(
        hs.Retrain(late_arrival, every="60d", cooldown="42d", companions=(without_streaming,)),
    ),
)
