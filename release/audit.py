"""Look up known vulnerabilities of every package that c3dvideo and its extras need, with pip-audit.

python release/audit.py build/release-tools/bin/pip-audit       # `make audit`

Exit codes: 0 all looked up and none known; 1 vulnerabilities are listed; 3 the advisory service did not answer, so that
nothing, or not everything, was looked up. pip-audit itself ends with 0 when its service has none of the packages.
"""

import argparse
import importlib.metadata
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from dependencies import closure, requirements
from packaging.utils import canonicalize_name

SERVICE = "the advisory service of PyPI"


def audited(tool: Path, seconds: float) -> list[dict[str, Any]]:
    """pip-audit's entry for each installed package; raises SystemExit with 3 when it could not ask its service."""
    options = ["--path", sysconfig.get_path("purelib"), "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run([tool, *options], capture_output=True, text=True, timeout=seconds, check=False)
        entries: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        _give_up(f"no answer within {seconds:g} seconds")
    except json.JSONDecodeError:  # it stopped before it wrote anything
        _give_up((done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"])[-1])
    return entries


def _give_up(reason: str) -> None:
    print(f"nothing was audited: {SERVICE} cannot be reached ({reason}); run it again with a network", file=sys.stderr)
    raise SystemExit(3)


def report(entries: list[dict[str, Any]], wanted: set[str]) -> int:
    """Print what is known about the packages in `wanted`; returns the exit code."""
    ours = [one for one in entries if canonicalize_name(one["name"]) in wanted]
    skipped = [one["name"] for one in ours if "skip_reason" in one]
    for one in ours:
        for found in one.get("vulns", []):
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            print(f"{one['name']} {one['version']}: {found['id']}, fixed in {fixed}")
    looked_up = len(ours) - len(skipped)
    if looked_up == 0:
        _give_up(f"it has none of the {len(ours)} packages")
    print(f"{looked_up} of {len(ours)} packages looked up", file=sys.stderr)
    if any(one.get("vulns") for one in ours):
        return 1
    if skipped:
        print(f"not found by {SERVICE}: {', '.join(skipped)}", file=sys.stderr)
        return 3
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", type=Path, help="pip-audit")
    parser.add_argument("--seconds", type=float, default=300, help="how long to wait for the service")
    given = parser.parse_args()
    wanted = closure(one for group in requirements().values() for one in group)
    installed = {canonicalize_name(one.name) for one in importlib.metadata.distributions()}
    return report(audited(given.tool, given.seconds), wanted & installed)


if __name__ == "__main__":
    sys.exit(main())
