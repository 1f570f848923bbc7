"""Small pictures as PNG, without a library: for notebooks, where a picture is shown whenever its pattern is."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 2
"""The colour type of pixels that are red, green and blue."""


def png(image: np.ndarray) -> bytes:
    """An image (rows, columns, 3) of uint8 as a file (W3C, "Portable Network Graphics")."""
    rows, columns, _ = image.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, _COLOURS, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in image)  # each line begins with its filter, which is none
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
