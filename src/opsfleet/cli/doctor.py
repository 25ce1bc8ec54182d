"""`opsfleet doctor`: one line for each thing that must be right, with a remedy where it is not."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
import uvloop
from rich.markup import escape

from opsfleet.app import Fleet, open_fleet
from opsfleet.cli.fleet import load_settings
from opsfleet.cli.output import console, print_json
from opsfleet.domain.errors import FleetError
from opsfleet.domain.partitions import months_to_keep_ready
from opsfleet.embedded import EmbeddedPostgresError
from opsfleet.services.archive import can_archive
from opsfleet.services.maintenance import PARTITIONED
from opsfleet.settings import Settings, SettingsError
from opsfleet.vault import VaultError

CLOCK_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is right, a sentence about it, and what to do when it is not."""

    name: str
    ok: bool
    message: str
    remedy: str | None = None


def doctor(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check settings, database, partitions, key, clock and workers; exits with 1 when something is wrong."""
    try:
        findings = _examine()
    except SettingsError as error:
        if not json:
            raise
        findings = [Finding("settings", False, str(error), "correct the environment variable")]
    if json:
        print_json({"findings": findings})
    else:
        out = console()
        for finding in findings:
            mark = "[green]ok  [/green]" if finding.ok else "[red]FAIL[/red]"
            out.print(f"{mark}  {finding.name:<11} {escape(finding.message)}", highlight=False, soft_wrap=True)
            if finding.remedy:
                out.print(f"      {'':<11} → {escape(finding.remedy)}", highlight=False, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _examine() -> list[Finding]:
    settings = load_settings(level="critical")
    findings = [Finding("settings", True, f"data in {settings.data_dir}, role {settings.role}"), *_archive(settings)]
    try:
        findings += uvloop.run(_examine_database(settings))
    except (EmbeddedPostgresError, VaultError) as error:
        findings.append(Finding("database", False, str(error), "see the message"))
    return findings


def _archive(settings: Settings) -> list[Finding]:
    if settings.archive_dir is None:
        return []
    if not can_archive():
        message = "FLEET_ARCHIVE_DIR is set, but pyarrow is not installed"
        return [Finding("archive", False, message, "pip install 'opsfleet[archive]'")]
    return [Finding("archive", True, f"history goes to {settings.archive_dir} before it is dropped")]


async def _examine_database(settings: Settings) -> list[Finding]:
    async with open_fleet(settings) as fleet:
        try:
            before = time.time()
            facts = await fleet.maintenance.facts()
            middle = (before + time.time()) / 2
        except FleetError as error:
            remedy = "check POSTGRES_* or DATABASE_URL, and that PostgreSQL runs"
            return [Finding("database", False, error.message, remedy)]
        findings = [Finding("database", True, f"PostgreSQL {facts.server_version}, {facts.megabytes:.0f} MB")]
        if facts.revision != facts.newest_revision:
            message = f"at revision {facts.revision or 'none'}, this version works with {facts.newest_revision}"
            return [*findings, Finding("schema", False, message, "run opsfleet migrate")]
        findings.append(Finding("schema", True, f"at revision {facts.revision}"))
        off = facts.clock - middle
        if abs(off) <= CLOCK_TOLERANCE_SECONDS:
            findings.append(Finding("clock", True, f"{abs(off):.1f} s from the database's"))
        else:
            message = f"{abs(off):.1f} s {'behind' if off > 0 else 'ahead of'} the database's"
            findings.append(Finding("clock", False, message, "synchronise both clocks, for example with chrony"))
        return [*findings, await _partitions(fleet), await _key(fleet), await _workers(fleet)]


async def _partitions(fleet: Fleet) -> Finding:
    missing, strays = await fleet.maintenance.missing_partitions()
    ready = len(PARTITIONED) * len(months_to_keep_ready(datetime.now(UTC)))
    if missing:
        return Finding("partitions", False, f"missing: {', '.join(missing)}", "run opsfleet migrate")
    if strays:
        return Finding("partitions", False, "rows lie in the default partition", "run opsfleet migrate")
    return Finding("partitions", True, f"{ready} present, this month and the next two")


async def _key(fleet: Fleet) -> Finding:
    wrong, looked_at = await fleet.servers.undecryptable()
    if wrong:
        message = f"{wrong} of {looked_at} server tokens cannot be decrypted"
        return Finding("key", False, message, "set FLEET_SECRET_KEY to the key they were stored with")
    return Finding("key", True, f"decrypts the tokens of {looked_at} servers")


async def _workers(fleet: Fleet) -> Finding:
    status = await fleet.workers.status()
    found = status.kinds.get("health_worker")
    if found is None:
        return Finding("workers", False, "no health worker has ever published", "start opsfleet serve")
    if not found["running"]:
        return Finding("workers", False, "the health worker has fallen silent", "start opsfleet serve, read its log")
    behind = sum(instance.state == "standby" for instance in status.instances)
    also = f", {behind} more on standby" if behind else ""
    return Finding("workers", True, f"health worker runs, {found['success_rate']} % of checks successful{also}")
