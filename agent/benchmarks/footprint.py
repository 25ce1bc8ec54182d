"""How much memory and processor time the agent takes at the control plane's default pace.

    .venv/bin/python agent/benchmarks/footprint.py [--seconds 180] [-- FLAGS OF THE AGENT]

Runs the agent with TLS, asks for health each 30 s and for metrics each 60 s on one kept connection, then prints one
line of JSON. Processor time is that of the agent and of the programs that it ran.
"""

import argparse
import hashlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trustme

TICKS = os.sysconf("SC_CLK_TCK")
TOKEN = "footprint"  # noqa: S105
HEALTH, METRICS = ("/health", 30), ("/api/v1/metrics/current", 60)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=180)
    parser.add_argument("--plain", action="store_true", help="without TLS")
    parser.add_argument("flags", nargs="*", help="flags of the agent, after --")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trust = ssl.create_default_context()
        flags = [*chosen.flags, "--port", "0", "--token-sha256", hashlib.sha256(TOKEN.encode()).hexdigest()]
        if not chosen.plain:
            flags += tls_files(Path(folder), trust)
        command = [sys.executable, "-m", "opsfleet_agent", *flags]
        with subprocess.Popen(  # noqa: S603
            command, stderr=subprocess.PIPE, text=True
        ) as agent:
            try:
                print(json.dumps(measure(agent, chosen.seconds, None if chosen.plain else trust)))
            finally:
                agent.terminate()


def tls_files(folder: Path, trust: ssl.SSLContext) -> list[str]:
    """Make a certificate for the agent, and return the flags that name it."""
    authority = trustme.CA()
    authority.configure_trust(trust)
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(folder / "chain.pem", append=True)
    return ["--host", "127.0.0.1", "--tls-certificate", f"{folder}/chain.pem", "--tls-key", f"{folder}/key.pem"]


def measure(agent: "subprocess.Popen[str]", seconds: int, trust: ssl.SSLContext | None) -> dict[str, float]:
    """Poll the agent for `seconds`, and return the figures."""
    assert agent.stderr is not None
    found = re.search(r"127\.0\.0\.1:(\d+)", agent.stderr.readline())
    assert found is not None
    port = int(found[1])
    connection = (
        http.client.HTTPConnection("127.0.0.1", port)
        if trust is None
        else http.client.HTTPSConnection("127.0.0.1", port, context=trust)
    )
    started, before, requests = time.monotonic(), processor_seconds(agent.pid), 0
    while (elapsed := time.monotonic() - started) < seconds:
        second = round(elapsed)
        for path, interval in (HEALTH, METRICS):
            if second % interval == 0:
                connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200
                requests += 1
        time.sleep(max(0.0, started + second + 1 - time.monotonic()))
    used = processor_seconds(agent.pid) - before
    return {
        "seconds": seconds,
        "requests": requests,
        "processor_percent": round(100 * used / (time.monotonic() - started), 4),
        **memory(agent.pid),
    }


def processor_seconds(pid: int) -> float:
    """Return the time of the process, to the nanosecond, and of its ended children, in ticks (proc(5))."""
    own = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[13]) + int(fields[14])) / TICKS


def memory(pid: int) -> dict[str, float]:
    """Return the resident memory of the process, now and at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    figures = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status))
    return {"resident_mb": round(int(figures["VmRSS"]) / 1024, 1), "peak_mb": round(int(figures["VmHWM"]) / 1024, 1)}


if __name__ == "__main__":
    main()
