"""The colours of pictures: blue for full tiles, amber for partial ones, told apart by every kind of colour vision.

Within a hue, darker is more: a larger share of kept cells, or a higher multiplicity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from patternc.show.picture import DEAD, FULL, PARTIAL, Panel, Picture

if TYPE_CHECKING:
    import numpy as np

RGB = tuple[int, int, int]

PAPER: RGB = (255, 255, 255)
SKIPPED_TILE: RGB = (246, 246, 244)
PARTIAL_TILE: RGB = (253, 240, 217)
"""A cell that is not kept, in a partial tile."""
PARTIAL_SCALE: tuple[RGB, RGB] = ((244, 178, 84), (148, 66, 8))
FULL_SCALE: tuple[RGB, RGB] = ((49, 110, 164), (12, 40, 82))
"""Of the least and the greatest multiplicity."""
SHARE_SCALE: tuple[RGB, RGB] = ((253, 226, 180), (214, 120, 24))
"""Of a partial display tile with hardly any kept cell, and with nearly all."""


def colours(picture: Picture, panel: Panel) -> np.ndarray:
    """(rows, columns, 3) uint8."""
    import numpy as np  # the command line starts without it

    image = np.empty((*panel.kinds.shape, 3), np.uint8)
    image[:] = SKIPPED_TILE
    kept = panel.values > 0
    partial, full = panel.kinds == PARTIAL, panel.kinds == FULL
    image[partial] = PARTIAL_TILE
    depth = depths(panel.values, picture.most)
    if picture.exact:
        image[partial & kept] = blend(PARTIAL_SCALE, depth[partial & kept])
    else:
        share = np.clip(panel.values / picture.most, 0, 1) ** 0.5  # the root keeps sparse tiles visible
        image[partial] = blend(SHARE_SCALE, share[partial])
    image[full] = blend(FULL_SCALE, depth[full])
    image[panel.kinds == DEAD] = PAPER
    return image


def depths(values: np.ndarray, most: int) -> np.ndarray:
    """0 for multiplicity 1, up to 1 for the largest."""
    import numpy as np

    return np.clip((values - 1) / max(1, most - 1), 0, 1)


def blend(scale: tuple[RGB, RGB], depth: np.ndarray) -> np.ndarray:
    """(len(depth), 3): colours between the ends of a scale, for depths 0 to 1."""
    import numpy as np

    low, high = np.array(scale[0], float), np.array(scale[1], float)
    return np.round(low + (high - low) * np.asarray(depth)[..., None]).astype(np.uint8)


def shade(scale: tuple[RGB, RGB], multiplicity: int, most: int) -> RGB:
    """One colour of a scale of multiplicities."""
    import numpy as np

    red, green, blue = blend(scale, depths(np.array([multiplicity]), most))[0].tolist()
    return red, green, blue


def hexadecimal(colour: RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
