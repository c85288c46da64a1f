"""Write the frozen bytes of a coder or picture format that has none yet.

    python tests/coding/freeze.py

Files that exist are left alone: they are what older versions wrote, and must be read for ever.
"""

import json
from pathlib import Path

import numpy as np

from narrows.coding import CODERS, ImageCodec, fit

FOLDER = Path(__file__).parent / "frozen"
IMAGE_SHAPE = (24, 40, 3)
FORMATS = ("jpeg", "webp", "avif")


def symbols_to_freeze():
    """Symbols (samples, components, height, width) from integer arithmetic alone."""
    state, values = 12345, []
    for index in range(8 * 6 * 5 * 4):
        state = (1103515245 * state + 12345) % 2**31
        size = (3, 2, 2, 1, 1, 0)[index // 20 % 6]
        values.append((state >> 16) % (4**size + 1) - 4**size // 2 if state >> 28 > size else 0)
    symbols = np.array(values, np.int32).reshape(8, 6, 5, 4)
    symbols[7, 0, 0, :3] = (2**31 - 1, -(2**31), 999)
    return symbols


def frozen_coder(name):
    """What a coder makes of the symbols: table of the first seven, payloads of the last two."""
    symbols = symbols_to_freeze()
    coder = CODERS[name]()
    table = fit(coder, [symbols[:7]])
    return {
        "coder": name,
        "table": {
            key: {"dtype": array.dtype.name, "shape": array.shape, "values": array.ravel().tolist()}
            for key, array in table.items()
        },
        "payloads": [coder.encode(sample, table).hex() for sample in symbols[6:]],
    }


def picture():
    """Pixels (24, 40, 3) with a slope, an edge and a colour."""
    rows, columns = np.mgrid[:24, :40]
    planes = [6 * columns, 10 * rows, 200 * (rows > columns // 2)]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in CODERS:
        path = FOLDER / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(frozen_coder(name)) + "\n")
    for name in FORMATS:
        path = FOLDER / f"picture.{name}"
        if not path.exists():
            path.write_bytes(ImageCodec(format=name, quality=70).encode(picture()))


if __name__ == "__main__":
    main()
