"""Arrays out of pickles: what numpy pickles comes back, and parts that contradict each other are refused."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3dvideo.errors import WeightsError
from c3dvideo.weights.formats.pickles import read_pickle, read_torch


class Call:
    """Pickles as a call of a numpy function, followed by the state that is given."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], state: Any = None) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.parts


RECONSTRUCT = np.empty(0).__reduce__()[0]
DTYPE_STATE = (3, "<", None, None, None, -1, -1, 0)


def array(dtype: Any = None, *, shape: Any = (2,), values: Any = b"\0" * 8, order: Any = False) -> Call:
    dtype = Call(np.dtype, ("f4", False, True), DTYPE_STATE) if dtype is None else dtype
    return Call(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, shape, dtype, order, values))


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i8", "|u1", "<f2", "|b1", "|S3", "<U2"])
def test_what_numpy_pickles_comes_back(tmp_path: Path, dtype: str, protocol: int) -> None:
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    content = OrderedDict(a=values, b=[np.asfortranarray(values)], c=values.ravel()[7], d=np.zeros((0, 3), dtype))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    back = read_pickle(tmp_path / "a.pkl")
    assert list(back) == list("abcd")
    for found, wanted in ((back["a"], values), (back["b"][0], values), (back["d"], content["d"])):
        np.testing.assert_array_equal(found, wanted)
        assert (found.dtype, found.shape) == (wanted.dtype.newbyteorder("="), wanted.shape)
    assert back["c"] == content["c"]


@pytest.mark.parametrize(
    "content",
    [
        array(shape=(10**12,)),
        array(shape=(-2,)),
        array(shape=(2.0,)),
        array(shape=(3,)),
        array(values=[1, 2]),
        array(values=None),
        array(Call(np.dtype, ("O", False, True)), values=b"\0" * 16),
        array(
            Call(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (int, 0)}, 8, 1, 63)), values=b"\0" * 16
        ),
        array(Call(np.dtype, ("f4", False, True), (3, "<", (np.dtype("f4"), (2,)), None, None, -1, -1, 0))),
        array(Call(np.dtype, ("f4", False, True), (3, "no", None, None, None, -1, -1, 0))),
        array(Call(np.dtype, ("f4", False, True), ())),
        array("f4"),
        Call(np.ndarray, ((10**12,),), 3),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    tmp_path: Path, content: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([content], protocol=2))
    with pytest.raises(WeightsError):
        read_pickle(tmp_path / "a.pkl")
    torch.save({"a": content}, tmp_path / "a.pth")
    with pytest.raises(WeightsError):
        read_torch(tmp_path / "a.pth")
    assert capfd.readouterr() == ("", "")  # numpy prints tracebacks about dtypes that it half believed


def test_an_array_that_is_only_made_allocates_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([Call(np.ndarray, ((10**12,),))], protocol=2))
    assert read_pickle(tmp_path / "a.pkl")[0].shape == (0,)


def test_flags_of_a_dtype_are_not_believed(tmp_path: Path) -> None:
    content = array(Call(np.dtype, ("f4", False, True), (3, "<", None, None, None, -1, -1, 63)))
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([content], protocol=2))
    (found,) = read_pickle(tmp_path / "a.pkl")
    assert found.dtype == np.float32
    assert found.dtype.flags == 0
