"""The run-time tensors of a command: from an .npz file, or drawn."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from patternc import ir
from patternc.draws import draw, extent

if TYPE_CHECKING:
    import numpy as np

BYTES_LIMIT = 2**31
"""Of all arrays of a file together, unpacked."""
_KINDS = {"int": "iu", "bool": "b", "float": "f"}


def run_time_tensors(
    tensors: Sequence[ir.Tensor], path: str | None, n: int, *, heads: int, seed: int
) -> dict[str, np.ndarray]:
    """An array for each tensor of a program; those that the file does not have are drawn, with one batch row.

    Raises ValueError for arrays that the program does not have or that have the wrong shape or type, and as `read_npz`
    and `draw` do.
    """
    given = read_npz(path) if path is not None else {}
    check_names(given, tensors, path)
    missing = [tensor for tensor in tensors if tensor.name not in given]
    rows = {given[t.name].shape[0] for t in tensors if t.batched and t.name in given and given[t.name].ndim}
    arrays = given | draw(missing, n, heads=heads, batch=max(rows, default=1), seed=seed)
    return {tensor.name: _fitting(tensor, arrays[tensor.name], n, heads) for tensor in tensors}


def _fitting(tensor: ir.Tensor, array: np.ndarray, n: int, heads: int) -> np.ndarray:
    """The array, integers as int64; ValueError if it is not of the shape and kind that the program declares."""
    dims = tuple(extent(dim, n, heads) for dim in tensor.dims)
    found = array.shape[1:] if tensor.batched and array.ndim else array.shape
    if found != dims or (tensor.batched and (not array.ndim or not array.shape[0])):
        wanted = ", ".join([*(["batch"] if tensor.batched else []), *map(str, dims)])
        raise ValueError(f"{tensor.name} has shape {array.shape}; at n = {n} the program needs ({wanted})")
    if array.dtype.kind not in _KINDS[tensor.element]:
        raise ValueError(f"{tensor.name} holds {array.dtype}; the program needs {tensor.element}")
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise ValueError(f"{tensor.name} holds numbers that do not fit into 64 bits")
    return array.astype("int64") if tensor.element == "int" else array


def check_names(given: Iterable[str], tensors: Iterable[ir.Tensor], path: str | None) -> None:
    """Raises ValueError if a file holds what the program does not have."""
    names = [tensor.name for tensor in tensors]
    unknown = sorted(set(given) - set(names))
    if unknown:
        found, wanted = ", ".join(unknown), ", ".join(names) or "none"
        raise ValueError(f"{path} holds {found}, but the program's run-time tensors are: {wanted}")


def read_npz(path: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file: integers, truth values and floats only, 2 GiB together at most, nothing unpickled.

    Raises ValueError for every other file, OSError for one that cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > BYTES_LIMIT:
                raise ValueError(f"{path} unpacks to more than {BYTES_LIMIT:,} bytes")
            return {entry.filename.removesuffix(".npy"): _read_array(archive, entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        # RuntimeError is zipfile's word for an encrypted entry, NotImplementedError for an unknown compression.
        raise ValueError(f"{path} is no .npz file of plain arrays: {error}") from error


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One entry. Its header is held against its size before an array is made of it."""
    import numpy as np  # only commands that take tensors need it

    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.kind not in "iubf":
            raise ValueError(f"{entry.filename} has elements of type {dtype}")
        count = int(np.prod(shape, dtype=object))
        if count < 0 or count * dtype.itemsize > entry.file_size:
            raise ValueError(f"{entry.filename} is shorter than its header says")
        data = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    if data.size != count:
        raise ValueError(f"{entry.filename} ends too early")
    return data.reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="))
