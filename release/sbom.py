"""Write the software bill of materials of a release: CycloneDX JSON of c3dvideo and all that its base install needs.

python release/sbom.py build/release-tools/bin/cyclonedx-py dist       # dist/c3dvideo-0.1.0.cdx.json

The tool lists a whole environment. The bill keeps what `pip install c3dvideo` brings along: the extras and the tools of
development that are installed beside it are not part of the release.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dependencies import ROOT, closure, requirements
from packaging.utils import canonicalize_name

import c3dvideo


def whole_environment(tool: Path) -> dict[str, Any]:
    """The tool's bill of everything installed for this Python, without times and random numbers."""
    options = ["--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--of", "JSON", sys.executable]
    done = subprocess.run([tool, "environment", *options], stdout=subprocess.PIPE, check=True)
    bill: dict[str, Any] = json.loads(done.stdout)
    return bill


def of_release(bill: dict[str, Any]) -> dict[str, Any]:
    """The part of a bill that the base install needs, with c3dvideo's version on its root."""
    wanted = closure(requirements()[""])
    kept = [one for one in bill["components"] if canonicalize_name(one["name"]) in wanted]
    missing = wanted - {canonicalize_name(one["name"]) for one in kept}
    if missing:
        raise SystemExit(f"the bill of materials lacks {', '.join(sorted(missing))}; run `make install` first")
    root = bill["metadata"]["component"]
    refs = {root["bom-ref"], *(one["bom-ref"] for one in kept)}
    edges = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", []) if ref in refs]}
        for one in bill["dependencies"]
        if one["ref"] in refs
    ]
    direct = {canonicalize_name(one.name) for one in requirements()[""]}
    for edge in edges:
        if edge["ref"] == root["bom-ref"]:  # the tool counts the extras' packages as needed by the root
            edge["dependsOn"] = [one["bom-ref"] for one in kept if canonicalize_name(one["name"]) in direct]
    metadata = {**bill["metadata"], "component": {**root, "type": "library", "version": c3dvideo.__version__}}
    return {**bill, "metadata": metadata, "components": kept, "dependencies": edges}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", type=Path, help="cyclonedx-py")
    parser.add_argument("out", type=Path, help="folder to write to")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"c3dvideo-{c3dvideo.__version__}.cdx.json"
    path.write_text(json.dumps(of_release(whole_environment(given.tool)), indent=2, sort_keys=True) + "\n")
    print(f"wrote {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
