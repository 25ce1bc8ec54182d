"""Scenarios: TOML files that say what goes wrong in a simulated fleet."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import get_args

import msgspec

from opsfleet.simulate.behaviour import (
    Delivery,
    DeliveryKind,
    Malformed,
    MetricsReport,
    Network,
    Report,
    ReportedStatus,
    Status,
)
from opsfleet.simulate.latency import Latency
from opsfleet.simulate.rules import Endpoint, Flap, Rule, Servers, When


class ScenarioError(Exception):
    """A scenario that cannot be used; the message is one sentence that names the key."""


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules in order; a later rule is stronger. Without rules every server is well and answers at once."""

    name: str = "calm"
    description: str = ""
    seed: int = 0
    rules: list[Rule] = []


def scenario_names() -> list[str]:
    """Return the names of the scenarios that come with the package."""
    files = resources.files("opsfleet.simulate") / "scenarios"
    return sorted(entry.name.removesuffix(".toml") for entry in files.iterdir() if entry.name.endswith(".toml"))


def load_scenario(name_or_path: str | Path) -> Scenario:
    """Return a scenario of the package by its name, or one from a file.

    Raises:
        ScenarioError: when there is none of that name, or it is not valid.
    """
    wanted = str(name_or_path)
    if wanted in scenario_names():
        text = (resources.files("opsfleet.simulate") / "scenarios" / f"{wanted}.toml").read_text("utf-8")
        return parse_scenario(text, name=wanted, source=wanted)
    path = Path(name_or_path)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        names = ", ".join(scenario_names())
        raise ScenarioError(f"scenario {wanted}: no such file, and not one of {names}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"scenario {wanted}: {error}") from None
    return parse_scenario(text, name=path.stem, source=wanted)


def parse_scenario(text: str, *, name: str = "scenario", source: str = "scenario") -> Scenario:
    """Return the scenario that TOML describes; `source` is what errors call it.

    Raises:
        ScenarioError: when it is not TOML or not a scenario.
    """
    try:
        return msgspec.convert({"name": name, **tomllib.loads(text)}, Scenario)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"scenario {source}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        where = path.strip("`").removeprefix("$").removeprefix(".")
        accepted = _accepted(message, where)
        told = ": ".join(part for part in (f"scenario {source}", where, message) if part)
        raise ScenarioError(f"{told}; accepted: {accepted}" if accepted else told) from None


def _accepted(message: str, where: str) -> str:
    """Return the keys or words accepted at `where`, empty when the message says it itself."""
    place = re.sub(r"\[\d+\]", "", where)
    if "unknown field" in message:
        return ", ".join(_KEYS[place].__struct_fields__) if place in _KEYS else ""
    if "enum value" in message or message.startswith("Invalid value"):
        return ", ".join(_WORDS.get(place, ()))
    return ""


_KEYS: dict[str, type[msgspec.Struct]] = {
    "": Scenario,
    "rules": Rule,
    "rules.servers": Servers,
    "rules.when": When,
    "rules.flap": Flap,
    "rules.status": Status,
    "rules.report": Report,
    "rules.metrics": MetricsReport,
    "rules.delivery": Delivery,
}
_WORDS: dict[str, tuple[str, ...]] = {
    "rules.network": get_args(Network),
    "rules.malformed": get_args(Malformed),
    "rules.endpoint": get_args(Endpoint),
    "rules.report.status": get_args(ReportedStatus),
    "rules.delivery.kind": get_args(DeliveryKind),
    "rules.latency.shape": tuple(str(shape.__struct_config__.tag) for shape in get_args(Latency)),
}
