"""Foreign arrays: what numpy writes is read, and one named error is raised for everything else, in little memory."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from c3dvideo.errors import StoreError
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_arrays import Arrays, read_npy, read_npz

MIB = 1 << 20


def foreign(path: Path, content: bytes = b"") -> ForeignFile:
    if content:
        path.write_bytes(content)
    return ForeignFile(path, error=StoreError, expected="a probe", advice="make one")


def npy_bytes(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(header: str, content: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + content


def npz_bytes(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return stream.getvalue()


@given(
    st_numpy.arrays(
        st.sampled_from(["<f4", ">f8", "<i8", "|u1", "<f2", "|b1"]), st_numpy.array_shapes(min_dims=0, min_side=0)
    ),
    st.booleans(),
)
def test_what_numpy_saves_is_read_as_numpy_reads_it(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any], fortran: bool
) -> None:
    content = npy_bytes(np.asarray(array, order="F") if fortran else array)
    path = tmp_path_factory.getbasetemp() / "any.npy"
    found = read_npy(foreign(path, content), kinds="fiub")
    np.testing.assert_array_equal(found, array)
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read_npy(foreign(path), kinds="fiub", content=content), array)


def test_headers_of_other_writers_are_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype="<f4").tobytes()
    for header in (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L)}",
        '{"shape":(2,3),"fortran_order":False,"descr":"<f4"}\n',
    ):
        for version in (1, 2):
            found = read_npy(foreign(tmp_path / "a.npy", with_header(header, values, version)), shape=(None, 3))
            np.testing.assert_array_equal(found, np.arange(6).reshape(2, 3))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    content = npy_bytes(np.array([{"a": 1}], dtype=object))
    with pytest.raises(StoreError, match=r"dtype '\|O'; expected numbers or text, not Python objects"):
        read_npy(foreign(tmp_path / "a.npy", content))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x", "it does not begin like a .npy array"),
        (b"\x93NUMPY\x03\x00", "it does not begin like a .npy array"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "it has a header of 4,294,967,295 bytes"),
        (b"\x93NUMPY\x01\x00\x76\x00{", "has a header of 118 bytes, or is cut short"),
        (with_header("{'descr': ',f4', 'fortran_order': False, 'shape': (3,)}"), "dtype ',f4'"),
        (with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}"), "the dtype"),
        (with_header("{'descr': '<f3', 'fortran_order': False, 'shape': (3,)}"), "is not a probe"),
        (with_header("{'descr': '<f4', 'fortran_order': False}"), "it has no 'shape'"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), r"the shape (-1,)"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}"), "the shape (True,)"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1.0,)}"), "the shape (1.0,)"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': 3}"), "the shape 3"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 1" + "0" * 30 + ")}"), "no array can have"),
        (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 40 + ")}"), "the shape (1, 1, "),
        (with_header("[1, 2]"), "is not a probe"),
        (with_header("(" * 5000), "is not a probe"),
        (with_header("__import__('os')"), "is not a probe"),
        (
            with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 16, 9000, 9000)}"),
            "cut short",
        ),
        (npy_bytes(np.zeros(4, np.float32))[:-1], "it has the shape (4,), 16 bytes, and is cut short"),
        (npy_bytes(np.zeros(4, np.complex64)), "the dtype '<c8'"),
        (npy_bytes(np.zeros((4, 3), np.float32)), "it has the shape (4, 3), expected (any, 4)"),
        (npy_bytes(np.zeros(4, np.float32)), "it has the shape (4,), expected (any, 4)"),
        (npy_bytes(np.array(["a"])), "it holds text (<U1), expected floats or integers or unsigned integers"),
    ],
)
def test_what_is_no_such_array_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    shape = (None, 4) if "expected (any" in reason else None
    for given_content in (None, content):
        with pytest.raises(StoreError) as raised:
            read_npy(foreign(tmp_path / "a.npy", content), shape=shape, content=given_content)
        assert reason in str(raised.value)
        assert str(raised.value).endswith("; make one")
        assert len(str(raised.value)) < 600


def test_an_array_is_no_larger_than_the_caller_allows(tmp_path: Path) -> None:
    file = foreign(tmp_path / "a.npy", npy_bytes(np.zeros(1000)))
    assert len(read_npy(file, max_bytes=10_000)) == 1000
    with pytest.raises(StoreError, match=r"the shape \(1000,\), 8,000 bytes; at most 7,999 are allowed"):
        read_npy(file, max_bytes=7999)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_archive_are_read_by_name(tmp_path: Path, save: Any) -> None:
    path = tmp_path / "a.npz"
    save(path, weights=np.eye(3), probe=np.array('{"classes": ["a"]}'), raw=np.array(b"ab"), n=np.array(7))
    with read_npz(foreign(path)) as arrays:
        assert arrays.names == ("weights", "probe", "raw", "n")
        np.testing.assert_array_equal(arrays.array("weights", kinds="f", shape=(3, None)), np.eye(3))
        assert arrays.json("probe") == {"classes": ["a"]}
        assert arrays.text("raw") == "ab"
        assert arrays.number("n") == 7.0
        with pytest.raises(StoreError, match="it has no array 'bias'; it has weights, probe, raw, n"):
            arrays.array("bias")


def check_all(file: ForeignFile, **options: Any) -> None:
    with read_npz(file, **options) as arrays:
        for name in arrays.names:
            arrays.array(name, kinds="fiuUSb")


EYE = npy_bytes(np.eye(3))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a zip", "it is no whole .npz archive"),
        (npz_bytes([("a.npy", EYE)])[:-10], "it is no whole .npz archive"),
        (npz_bytes([("a.npy", EYE), ("notes.txt", b"x")]), "it contains 'notes.txt', which is no .npy array"),
        (npz_bytes([("a.npy", EYE + b"x")]), "'a' is longer than its shape (3, 3)"),
        (npz_bytes([("a.npy", EYE)]).replace(EYE[-8:], b"\x01" * 8), "Bad CRC-32"),
        (npz_bytes([("a.npy", EYE)], zipfile.ZIP_LZMA), "'a' is compressed by method 14; expected deflate or none"),
        (npz_bytes([("a.npy", EYE[:-1])]), "cut short"),
    ],
)
def test_archives_that_are_damaged_or_hold_something_else_are_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    with pytest.raises(StoreError) as raised:
        check_all(foreign(tmp_path / "a.npz", content))
    assert reason in str(raised.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="two arrays of one name"):
        check_all(foreign(tmp_path / "a.npz", npz_bytes([("a.npy", EYE), ("a.npy", EYE)])))


def patched(content: bytes, at_local: int, at_central: int, value: bytes) -> bytes:
    """An archive of one member with a field changed in both of its headers."""
    central = content.index(b"PK\x01\x02")
    changed = bytearray(content)
    changed[at_local : at_local + len(value)] = value
    changed[central + at_central : central + at_central + len(value)] = value
    return bytes(changed)


def test_encrypted_and_unknown_members_are_refused(tmp_path: Path) -> None:
    content = npz_bytes([("a.npy", EYE)])
    with pytest.raises(StoreError, match="'a' is encrypted"):
        check_all(foreign(tmp_path / "a.npz", patched(content, 6, 8, b"\x01\x00")))
    with pytest.raises(StoreError, match="'a' is compressed by method 99"):
        check_all(foreign(tmp_path / "a.npz", patched(content, 8, 10, b"\x63\x00")))


def test_sizes_that_an_archive_claims_do_not_allocate(tmp_path: Path) -> None:
    header = with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,)}")
    content = npz_bytes([("a.npy", header)])
    huge = struct.pack("<I", 4_000_000_200)
    content = patched(patched(content, 18, 20, huge), 22, 24, huge)
    tracemalloc.start()
    with pytest.raises(StoreError, match="cut short"):
        check_all(foreign(tmp_path / "a.npz", content))
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()


def test_a_bomb_unpacks_to_the_limit_over_all_arrays_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros(12 * MIB, np.uint8), b=np.zeros(12 * MIB, np.uint8))
    assert path.stat().st_size < MIB // 16
    check_all(foreign(path), max_bytes=25 * MIB)
    tracemalloc.start()
    with pytest.raises(StoreError, match=r"'b' has the shape \(12582912,\), 12,582,912 bytes; at most 4,194,304 are"):
        check_all(foreign(path), max_bytes=16 * MIB)
    assert tracemalloc.get_traced_memory()[1] < 16 * MIB + 4 * MIB
    tracemalloc.stop()


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_number_is_finite(tmp_path: Path, value: float) -> None:
    np.savez(tmp_path / "a.npz", n=np.array(value))
    with pytest.raises(StoreError, match="expected a finite number"), read_npz(foreign(tmp_path / "a.npz")) as arrays:
        arrays.number("n")


def test_text_that_is_no_text_is_refused(tmp_path: Path) -> None:
    beyond = npy_bytes(np.array("a")).replace("a".encode("utf-32-le"), b"\xff\xff\xff\x7f")
    long = with_header("{'descr': '<U99999999', 'fortran_order': False, 'shape': ()}", b"\0" * 10)
    for content in (beyond, long, npy_bytes(np.array(b"\xff"))):
        with (
            pytest.raises(StoreError, match="is not a probe"),
            read_npz(foreign(tmp_path / "a.npz", npz_bytes([("t.npy", content)]))) as arrays,
        ):
            arrays.text("t")


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    """The content with a few bytes changed, a part cut out, or a part doubled."""

    def change(places: list[tuple[int, int]]) -> bytes:
        changed = bytearray(content)
        for place, value in places:
            changed[place % len(changed)] = value
        return bytes(changed)

    place = st.integers(0, len(content))
    changed = st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=4).map(change)
    cut = st.tuples(place, place).map(lambda ends: content[: min(ends)] + content[max(ends) :])
    doubled = st.tuples(place, place).map(lambda ends: content[: max(ends)] + content[min(ends) :])
    return changed | cut | doubled


ARCHIVES = [npz_bytes([("fc6.npy", EYE), ("t.npy", npy_bytes(np.array("{}")))], way) for way in (0, 8)]


@given(st.sampled_from(ARCHIVES).flatmap(mutations))
def test_any_archive_gives_arrays_or_the_named_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    def use(arrays: Arrays) -> None:
        for name in arrays.names:
            arrays.array(name, kinds="fiuUSb")

    try:
        with read_npz(foreign(tmp_path_factory.getbasetemp() / "any.npz", content or b"x")) as arrays:
            use(arrays)
    except StoreError as error:
        assert "is not a probe" in str(error)
