"""C++ built on first use: where there is a compiler, where there is none, and where the source is wrong."""

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from c3dvideo import compiled


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("C3DVIDEO_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "twice.cpp"
    path.write_text('extern "C" int twice(int x) { return 2 * x; }\n')
    yield path
    compiled.attempt.cache_clear()


def test_a_library_is_built_once_and_kept(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled.compiler() is None:
        pytest.skip("no C++ compiler here")
    library = compiled.load(source)
    assert library is not None
    assert library.twice(21) == 42
    compiled.attempt.cache_clear()
    monkeypatch.setattr(compiled, "build", lambda *_: pytest.fail("built again"))
    assert isinstance(compiled.attempt(source), ctypes.CDLL)
    kept = compiled.library_path(source)
    assert [path.name for path in compiled.cache_folder().iterdir()] == [kept.name]
    source.write_text("// another source\n")
    assert compiled.library_path(source) != kept


def test_why_there_is_none(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled.compiler() is not None:
        source.write_text("this is no C++\n")
        assert "failed: " in str(compiled.attempt(source))
    monkeypatch.setenv("CXX", str(tmp_path / "missing"))
    monkeypatch.setenv("PATH", str(tmp_path))
    compiled.attempt.cache_clear()
    assert compiled.load(source) is None
    assert "No such file" in str(compiled.attempt(source))
    monkeypatch.setenv("C3DVIDEO_COMPILE", "0")
    compiled.attempt.cache_clear()
    assert compiled.attempt(source) == "turned off by C3DVIDEO_COMPILE=0"
