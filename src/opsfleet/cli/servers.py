"""`opsfleet servers`: the registry from a shell."""

import csv
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from opsfleet.api.wire import health_check
from opsfleet.app import Fleet
from opsfleet.cli.fleet import with_fleet
from opsfleet.cli.output import ago, complain, console, print_json, print_table, word
from opsfleet.domain.errors import (
    ChangedMeanwhileError,
    FleetError,
    InvalidImportError,
    NotActiveError,
    NotFoundError,
)
from opsfleet.domain.health import HealthCheck
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.domain.servers import Server, ServerKind
from opsfleet.services.health import CheckBrokeError
from opsfleet.store.servers import Page, ServerFilter

app = typer.Typer(help="List, add, import, show, check and remove servers.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ServerArgument = Annotated[str, typer.Argument(metavar="SERVER", help="Its name or id.")]


@app.command("list")
def list_servers(
    status: Annotated[list[str] | None, typer.Option(help="active, inactive or maintenance.")] = None,
    health: Annotated[list[str] | None, typer.Option(help="healthy, degraded, critical or unreachable.")] = None,
    region: Annotated[list[str] | None, typer.Option()] = None,
    environment: Annotated[list[str] | None, typer.Option()] = None,
    tag: Annotated[list[str] | None, typer.Option(help="All of them must be there.")] = None,
    search: Annotated[str | None, typer.Option("--search", "-s", help="In name, hostname and description.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000,
    json: JsonOption = False,
) -> None:
    """List servers by name."""
    wanted = ServerFilter(status or (), health or (), region or (), environment or (), tag or (), search)

    async def run(fleet: Fleet) -> list[Server]:
        found: list[Server] = []
        while len(found) < limit:
            after = (found[-1].name, found[-1].id) if found else None
            page = Page(limit=min(500, limit - len(found)), after=after)
            listing = await fleet.servers.list_page(DEFAULT_ORGANIZATION, wanted, page)
            found += listing.items
            if not listing.more:
                break
        return found

    servers = with_fleet(run)
    if json:
        print_json({"items": servers})
        return
    print_table(
        ["NAME", "HEALTH", "STATUS", "REGION", "ENVIRONMENT", "LAST SEEN", "URL"],
        [
            (
                server.name,
                word(server.health_status),
                word(server.status),
                server.region or "-",
                server.environment or "-",
                ago(server.last_seen_at),
                server.api_url,
            )
            for server in servers
        ],
    )


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Unique name.")],
    api_url: Annotated[str, typer.Argument(help="Where it answers, such as https://host:9100.")],
    hostname: Annotated[str | None, typer.Option(help="Its own name; NAME unless given.")] = None,
    kind: Annotated[ServerKind, typer.Option(help="What answers there.")] = ServerKind.AGENT,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File that holds the token; an agent's is read from stdin unless given."),
    ] = None,
    description: Annotated[str | None, typer.Option()] = None,
    region: Annotated[str | None, typer.Option()] = None,
    environment: Annotated[str | None, typer.Option()] = None,
    tag: Annotated[list[str] | None, typer.Option()] = None,
    ca_file: Annotated[Path | None, typer.Option(help="PEM bundle to trust instead of the system's.")] = None,
    json: JsonOption = False,
) -> None:
    """Register a server and check it at once."""
    raw: dict[str, Any] = {
        "name": name,
        "hostname": hostname or name,
        "api_url": api_url,
        "kind": kind.value,
        "api_token": _token(token_file) if kind is ServerKind.AGENT or token_file is not None else None,
        "description": description,
        "region": region,
        "environment": environment,
        "tags": tag or [],
        "ca_certificate": _read(ca_file) if ca_file else None,
    }

    async def run(fleet: Fleet) -> tuple[Server, HealthCheck | FleetError]:
        server = await fleet.servers.register(DEFAULT_ORGANIZATION, raw)
        try:
            check = await fleet.health.check_now(DEFAULT_ORGANIZATION, server.id)
            return await fleet.servers.get(DEFAULT_ORGANIZATION, server.id), check
        except (CheckBrokeError, ChangedMeanwhileError, NotActiveError, NotFoundError) as error:
            return server, error

    server, found = with_fleet(run)
    check = found if isinstance(found, HealthCheck) else None
    if json:
        print_json({"server": server, "health_check": health_check(check) if check else None})
    else:
        console().print(f"Registered {server.name} ({server.id}).")
        if check:
            _print_check(check)
    if check is None:
        complain(f"{server.name} is registered, but was not checked yet: {found}")


@app.command("import")
def import_servers(
    file: Annotated[Path, typer.Argument(help="CSV with a header line, or JSON: a list, or an object with `servers`.")],
    json: JsonOption = False,
) -> None:
    """Register many servers, all or nothing.

    CSV columns are name, hostname, api_url, api_token (agents need one) and, optionally, kind (agent or
    node_exporter), description, region, environment, tags (separated by semicolons), metadata (JSON) and
    ca_certificate.
    """
    rows = _read_rows(file)

    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), transient=True, disable=json
    ) as progress:
        task = progress.add_task("Checking rows", total=len(rows))

        async def run(fleet: Fleet) -> int:
            return await fleet.servers.import_many(
                DEFAULT_ORGANIZATION, rows, on_progress=lambda done: progress.update(task, completed=done)
            )

        try:
            imported = with_fleet(run)
        except InvalidImportError as error:
            progress.stop()
            complain(error.message)
            found = [(row, item) for row in error.rows for item in row.errors]
            for row, item in found if len(found) > 1 else ():  # the only one was said already
                complain(f"row {row.row} ({row.name or 'no name'}): {item.field}: {item.message}")
            raise typer.Exit(1) from None
    if json:
        print_json({"imported": imported})
    else:
        console().print(f"Imported {imported} servers.")


@app.command()
def show(server: ServerArgument, json: JsonOption = False) -> None:
    """Show a server."""

    async def run(fleet: Fleet) -> Server:
        return await fleet.servers.find(DEFAULT_ORGANIZATION, server)

    found = with_fleet(run)
    if json:
        print_json(found)
        return
    print_table(
        ["FIELD", "VALUE"],
        [
            ("name", found.name),
            ("id", str(found.id)),
            ("hostname", found.hostname),
            ("kind", word(found.kind)),
            ("api_url", found.api_url),
            ("status", word(found.status)),
            ("health", word(found.health_status)),
            ("version", found.version or "-"),
            ("region", found.region or "-"),
            ("environment", found.environment or "-"),
            ("tags", ", ".join(found.tags) or "-"),
            ("description", found.description or "-"),
            ("last seen", ago(found.last_seen_at)),
            ("last check", ago(found.last_health_check_at)),
            ("unreachable", f"since {found.unreachable_since:%Y-%m-%d %H:%M} UTC" if found.unreachable_since else "-"),
        ],
    )


@app.command()
def check(server: ServerArgument, json: JsonOption = False) -> None:
    """Check a server's health now; exits with 1 unless it is healthy or degraded."""

    async def run(fleet: Fleet) -> HealthCheck:
        found = await fleet.servers.find(DEFAULT_ORGANIZATION, server)
        return await fleet.health.check_now(DEFAULT_ORGANIZATION, found.id)

    result = with_fleet(run)
    if json:
        print_json(health_check(result))
    else:
        _print_check(result)
    if result.status in {"critical", "unreachable"}:
        raise typer.Exit(1)


@app.command()
def remove(
    server: ServerArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove a server and its history."""
    if not yes:
        typer.confirm(f"Remove {server} and its history?", abort=True, err=True)

    async def run(fleet: Fleet) -> Server:
        found = await fleet.servers.find(DEFAULT_ORGANIZATION, server)
        await fleet.servers.remove(DEFAULT_ORGANIZATION, found.id)
        return found

    removed = with_fleet(run)
    if json:
        print_json({"removed": removed})
    else:
        console().print(f"Removed {removed.name}.")


def _print_check(check: HealthCheck) -> None:
    line = word(check.status)
    if check.response_time_ms is not None:
        line.append(f" in {check.response_time_ms:.1f} ms", style="default")
    if check.error_message:
        line.append(f": {check.error_message}", style="default")
    console().print(line)


def _token(token_file: Path | None) -> str:
    if token_file is not None:
        return _read(token_file).strip()
    if sys.stdin.isatty():
        return str(typer.prompt("Agent token", hide_input=True, err=True))
    return sys.stdin.readline().strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        complain(f"cannot read {path}: {error.strerror if isinstance(error, OSError) else 'it is not UTF-8 text'}")
        raise typer.Exit(1) from None


def _read_rows(path: Path) -> list[Any]:
    text = _read(path)
    if path.suffix.lower() == ".csv":
        return [_csv_row(row) for row in csv.DictReader(text.splitlines(keepends=True))]
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        complain(f"{path} is not JSON: {error}")
        raise typer.Exit(1) from None
    rows = raw.get("servers") if isinstance(raw, dict) else raw
    if not isinstance(rows, list):
        complain(f"{path} must hold a list of servers, or an object with such a list under `servers`")
        raise typer.Exit(1)
    return rows


def _csv_row(row: dict[str | None, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (
        {(name or "surplus column"): value for name, value in row.items() if value not in {None, ""} or name is None}
        if None not in row
        else {"surplus column": str(row[None])}
    )
    if "tags" in found:
        found["tags"] = [tag.strip() for tag in found["tags"].split(";") if tag.strip()]
    if "metadata" in found:
        with suppress(msgspec.DecodeError):  # the registry says what is wrong with it
            found["metadata"] = msgspec.json.decode(found["metadata"])
    return found
