"""The command line."""

from __future__ import annotations

import click

from homeostat import __version__
from homeostat.runtime import (
    cli_audit,
    cli_data,
    cli_doctor,
    cli_drift,
    cli_export,
    cli_features,
    cli_fetch,
    cli_lake,
    cli_lake_report,
    cli_letters,
    cli_models,
    cli_profile,
    cli_receipt,
    cli_replay,
    cli_run,
    cli_schemas,
    cli_system,
    cli_tier,
    cli_watch,
)
from homeostat.runtime.cli_shared import Group

__all__ = ["main"]

HEADINGS = {
    "Declare": ("init", "check", "plan", "apply", "schemas"),
    "Run": ("run", "replay", "ingest", "fetch", "dead-letters"),
    "Learn": ("features", "train", "models", "evaluate", "rebuild", "drift"),
    "Look": ("status", "journal", "receipt", "explain", "sql", "lake", "report", "doctor"),
    "Act": ("rollback",),
}


@click.group(
    "homeostat",
    cls=Group,
    headings=HEADINGS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done; 1 an error, told on stderr; 2 wrong usage; 3 done, and something "
    "was found that wants attention. --system, --home and --json may stand before or after the "
    "command.",
)
@click.version_option(__version__, prog_name="homeostat")
def main() -> None:
    """Run a whole machine-learning system from one file of declarations."""


for _command in (
    cli_system.init, cli_system.check, cli_system.plan, cli_system.apply,
    cli_schemas.schemas, cli_run.run, cli_replay.replay, cli_data.ingest, cli_fetch.fetch,
    cli_letters.dead_letters,
    cli_features.features, cli_models.train, cli_models.models, cli_models.evaluate,
    cli_models.rebuild, cli_drift.drift, cli_watch.status, cli_watch.journal, cli_receipt.receipt,
    cli_receipt.explain, cli_data.sql, cli_lake.lake, cli_receipt.report, cli_doctor.doctor,
    cli_watch.rollback,
):  # fmt: skip
    main.add_command(_command)
cli_features.features.add_command(cli_audit.audit)
cli_features.features.add_command(cli_profile.profile_command)
cli_features.features.add_command(cli_export.export)
cli_lake.lake.add_command(cli_tier.tier)
cli_lake.lake.add_command(cli_lake_report.lake_report_command)
