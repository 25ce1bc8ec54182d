"""`python -m opsfleet_agent` is `opsfleet-agent`."""

import sys

from opsfleet_agent.cli import main

sys.exit(main())
