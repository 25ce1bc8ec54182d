"""The documents that are made from the code: `python -m tests.support.generated [--check]`.

Without `--check` they are written; with it, the stale ones are named and the exit code is 1.
"""

import difflib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer.main
from benchmarks.figures import table

from opsfleet.api.application import create_application
from opsfleet.cli import app
from opsfleet.settings import Settings, accepted_by, is_secret, variable_of

ROOT = Path(__file__).parents[2]
FIGURES = "<!-- Figures: made by `make generate` from benchmarks/results; do not edit. -->"
END_OF_FIGURES = "<!-- End of figures -->"
NOTE = "<!-- Made by `make generate`; do not edit. -->\n\n"


def settings_page() -> str:
    """Return the reference of all settings."""
    lines = [
        NOTE + "# Settings\n",
        "Environment variables. An unknown `FLEET_*` variable, or a value that is not accepted, stops the start with",
        "one line that names it. Secrets (marked) can also be given as a file: `NAME_FILE=/path`.\n",
        "| variable | default | meaning | accepted |",
        "| --- | --- | --- | --- |",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default
        if name == "data_dir" or default is None:
            shown = "none" if default is None else "see the meaning"
        elif name == "log_format":
            shown = "see the meaning"
        elif isinstance(default, tuple):
            shown = f"`{','.join(map(str, default))}`" if default else "empty"
        else:
            shown = f"`{default}`"
        marked = " (secret)" if is_secret(name) else ""
        lines.append(f"| `{variable_of(name, field)}`{marked} | {shown} | {field.description} | {accepted_by(field)} |")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Return the reference of all commands, as their `--help` says it."""
    lines = [NOTE + "# Commands\n"]
    _describe(typer.main.get_command(app), "opsfleet", lines)
    return "\n".join(lines).rstrip() + "\n"


def _describe(command: Any, name: str, lines: list[str]) -> None:
    context = command.context_class(command, info_name=name)
    lines.append(f"## {name}\n")
    lines.append((command.help or "").strip() + "\n")
    usage = " ".join(command.collect_usage_pieces(context))
    lines.append(f"```\n{name} {usage}\n```\n")
    rows = [record for parameter in command.params if (record := _parameter(parameter)) is not None]
    if rows:
        lines.append("| option or argument | meaning |\n| --- | --- |")
        lines.extend(f"| `{left}` | {right} |" for left, right in rows)
        lines.append("")
    for inner in getattr(command, "commands", {}).values():
        _describe(inner, f"{name} {inner.name}", lines)


def _parameter(parameter: Any) -> tuple[str, str] | None:
    if getattr(parameter, "hidden", False) or (parameter.name or "").endswith("_completion"):
        return None
    meaning = " ".join((getattr(parameter, "help", None) or "").split())
    is_option = parameter.param_type_name == "option"
    left = ", ".join(parameter.opts) if is_option else parameter.metavar or (parameter.name or "").upper()
    if isinstance(parameter.default, int | float | str) and parameter.default is not False:
        meaning = f"{meaning} Default: {parameter.default}.".strip()
    return left.replace("|", "\\|"), meaning.replace("|", "\\|") or " "


def openapi_document() -> str:
    """Return the OpenAPI document."""
    return json.dumps(create_application().openapi(), indent=1, ensure_ascii=False) + "\n"


def readme() -> str:
    """Return the README with the figures of the last benchmarks."""
    file = ROOT / "README.md"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    before, _, rest = text.partition(FIGURES)
    _, _, after = rest.partition(END_OF_FIGURES)
    return f"{before}{FIGURES}\n\n{table()}\n\n{END_OF_FIGURES}{after}"


DOCUMENTS: list[tuple[str, Callable[[], str]]] = [
    ("docs/reference/settings.md", settings_page),
    ("docs/reference/commands.md", commands_page),
    ("docs/reference/openapi.json", openapi_document),
    ("README.md", readme),
]


def stale() -> list[str]:
    """Return the documents that no longer say what the code does, each with its first difference."""
    found = []
    for path, make in DOCUMENTS:
        file = ROOT / path
        kept = file.read_text(encoding="utf-8") if file.exists() else ""
        made = make()
        if kept != made:
            changes = list(difflib.unified_diff(kept.splitlines(), made.splitlines(), n=0, lineterm=""))
            found.append(f"{path} is stale; run make generate\n  " + "\n  ".join(changes[2:8]))
    return found


def main(arguments: list[str]) -> int:
    """Write the documents, or check them."""
    if arguments == ["--check"]:
        complaints = stale()
        print("\n".join(complaints) or "Generated documents are up to date.")
        return 1 if complaints else 0
    for path, make in DOCUMENTS:
        (ROOT / path).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
