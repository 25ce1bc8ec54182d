"""`python -m opsfleet.simulate`, which `process.py` starts: options come in as JSON, the first line out is the port."""

import sys

import msgspec

from opsfleet.simulate.run import RunOptions, run


def _say(line: object) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    run(msgspec.json.decode(sys.stdin.buffer.read(), type=RunOptions), lambda fleet: _say(fleet.port), _say)
