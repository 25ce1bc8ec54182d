"""The command `opsfleet-agent`."""

import argparse
import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import msgspec

from opsfleet_agent import __version__, log, server, tokens
from opsfleet_agent.config import DEFAULT_PATH, ConfigError, load
from opsfleet_agent.options import OPTIONS

COMMANDS = """\
commands:
  run     answer requests until told to stop (the default)
  check   print the health document, and exit with 1 unless its status is ok
  token   make a new token: print it, once, with the hash for the configuration
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 2 for a configuration that nobody can use, 1 for other failures."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    command, path = given.pop("command"), given.pop("config", None)
    if command == "token":
        return _token()
    try:
        config = load(path, given, serving=command == "run")
        # A check prints a document; only what is wrong with asking belongs beside it.
        log.set_up(config.log_level if command == "run" else "error")
        if command == "check":
            health = asyncio.run(server.check(config))
            print(msgspec.json.format(msgspec.json.encode(health), indent=2).decode())
            return 0 if health.status == "ok" else 1
        asyncio.run(server.serve(config))
    except ConfigError as error:
        parser.error(" ".join(str(error).splitlines()))
    except server.ListenError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    return 0


def _token() -> int:
    token = tokens.new_token()
    print(f"token (give it to the control plane; it is shown only once):\n{token}\n")
    print(f'for agent.toml:\ntoken_sha256 = "{tokens.sha256(token.encode())}"')
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="opsfleet-agent",
        description="Answers health and metrics requests of Ops-Center Fleet on a managed server.",
        epilog=COMMANDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("command", nargs="?", choices=("run", "check", "token"), default="run", metavar="COMMAND")
    parser.add_argument("--config", metavar="FILE", help=f"the configuration in TOML; {DEFAULT_PATH} if it exists")
    for option in OPTIONS:
        settings: dict[str, Any] = {"dest": option.key, "help": option.help.replace("%", "%%")}
        if option.key == "insecure_http":
            settings["action"] = "store_true"
        elif option.many:
            settings |= {"action": "append", "metavar": "VALUE", "help": settings["help"] + "; may be repeated"}
        else:
            settings["metavar"] = "VALUE"
        parser.add_argument(option.flag, **settings)
    parser.add_argument("--version", action="version", version=f"opsfleet-agent {__version__}")
    return parser
