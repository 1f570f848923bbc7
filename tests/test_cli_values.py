"""What comes to the command line as values: parameters, arrays from files, and draws of run-time tensors."""

from __future__ import annotations

import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from patternc import ir
from patternc.cli import tensors
from patternc.cli.tensors import read_npz
from patternc.cli.values import parse_assignment, parse_value
from patternc.draws import draw

# ------------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("1_000", 1000), ("0.5", 0.5), (" -3 ", -3), ("inf", float("inf")), ("True", True),
        ("[]", []), ("[1, 2,]", [1, 2]), ("(1, inf)", (1, float("inf"))), ("[(64, 1), (128, 2)]", [(64, 1), (128, 2)]),
        ("(7)", 7), ("9223372036854775807", 2**63 - 1), ("007", 7), ("[[1],[-0.25]]", [[1], [-0.25]]),
    ],
)  # fmt: skip
def test_values(text, value):
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "x", "1e5", "0x10", ".5", "5.", "1__0", "_1", "1_", "1._5", "(1,)", "()", "[1 2]", "[", "]", "1 2",
        "--",
        "-(1, 2)", "-True", "None", "nan", "'a'", "__import__('os')", "1+1", "9223372036854775808", "[" * 5000, "٣",
        "1" * 5000, "1" * 200_000,
    ],
)  # fmt: skip
def test_texts_that_are_no_values(text):
    with pytest.raises(ValueError, match=r"."):
        parse_value(text)


@given(st.text("0123456789_.,()[]- eTrueinfx", max_size=40))
def test_any_text_is_a_value_or_an_error(text):
    with suppress(ValueError):
        assert isinstance(parse_value(text), int | float | list | tuple)


def test_assignments():
    assert parse_assignment("levels = [(4, 1)]") == ("levels", [(4, 1)])
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_assignment("3=4")


# ------------------------------------------------------------------ run-time tensors

N, HEADS = ir.Var("n"), ir.Var("heads")


def tensor(name: str, element: str, *dims: ir.Scalar, batched: bool = True) -> ir.Tensor:
    return ir.Tensor(name, element, dims, batched)


def test_draws_have_the_declared_shapes_and_kinds():
    wanted = [
        tensor("doc", "int", N), tensor("flag", "bool", N), tensor("score", "float", HEADS, N, N),
        tensor("length", "int"), tensor("table", "int", ir.Const(7), batched=False),
    ]  # fmt: skip
    found = draw(wanted, 50, heads=3, batch=2, seed=1)
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {"doc": (2, 50), "flag": (2, 50), "score": (2, 3, 50, 50), "length": (2,), "table": (7,)}
    assert (np.diff(found["doc"]) >= 0).all()
    assert 2 <= len(np.unique(found["doc"])) <= 25
    assert found["flag"].dtype == bool
    assert (found["flag"].sum(-1) >= 1).all()
    assert found["flag"].mean() < 0.5
    assert abs(found["score"].mean()) < 0.1
    assert (found["length"] <= 50).all()
    again = draw(wanted[::-1], 50, heads=3, batch=2, seed=1)
    assert all((again[name] == found[name]).all() for name in found)
    assert (draw(wanted, 50, heads=3, batch=2, seed=2)["score"] != found["score"]).any()


def test_draws_are_bounded():
    with pytest.raises(ValueError, match="too large"):
        draw([tensor("s", "float", N, N)], 10**6, heads=1)
    with pytest.raises(ValueError, match="negative"):
        draw([tensor("s", "float", ir.Binary("-", N, ir.Const(9)))], 4, heads=1)


def test_npz_of_plain_arrays(tmp_path):
    arrays = {"doc": np.arange(6).reshape(2, 3), "x": np.asfortranarray(np.ones((2, 3), ">f4")), "f": np.array([True])}
    np.savez(tmp_path / "t.npz", **arrays)
    found = read_npz(str(tmp_path / "t.npz"))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (found[name] == array).all()
        assert found[name].dtype.isnative


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


HOSTILE_ENTRIES = {
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n(S'true'\ntR."),
    "huge": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", b"\0" * 8),
    "negative": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", b"\0" * 8),
    "records": npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}", b"\0" * 8),
    "text": npy("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}", b"\0" * 16),
    "code": npy("__import__('os').system('true')"),
    "empty": b"",
    "not npy": b"hello",
}


@pytest.mark.parametrize("name", HOSTILE_ENTRIES)
def test_npz_entries_that_are_no_plain_arrays(tmp_path, name):
    path = tmp_path / "t.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("doc.npy", HOSTILE_ENTRIES[name])
    with pytest.raises(ValueError, match=r"no \.npz file"):
        read_npz(str(path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"x" * 1000, npy("{}")])
def test_files_that_are_no_npz(tmp_path, content):
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"no \.npz file"):
        read_npz(str(path))


def test_npz_bombs_are_refused_unread(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "t.npz", a=np.zeros(600), b=np.zeros(600))
    monkeypatch.setattr(tensors, "BYTES_LIMIT", 10_000)
    assert len(read_npz(str(tmp_path / "t.npz"))) == 2
    monkeypatch.setattr(tensors, "BYTES_LIMIT", 9_000)
    with pytest.raises(ValueError, match="unpacks to more"):
        read_npz(str(tmp_path / "t.npz"))
