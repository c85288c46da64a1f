"""One call of nncodec, the reference software of the standard ISO/IEC 15938-17.

    PYTHON nncodec_file.py WEIGHTS.npz DECODED.npz KEY=VALUE ...

It pins an old NumPy, so PYTHON is the interpreter of an environment of its own
(`python -m venv ENV; ENV/bin/pip install nncodec`); the other benchmarks call this file with it.
Prints one JSON object: bytes of the bitstream, seconds to encode and to decode.
"""

import json
import sys
import time

import numpy as np
from nncodec.nn import decode, encode


def main() -> None:
    source, target, *settings = sys.argv[1:]
    asked = {key: json.loads(value) for key, value in (one.split("=") for one in settings)}
    with np.load(source) as stored:
        weights = {name: stored[name] for name in stored.files}
    began = time.perf_counter()
    stream = encode(weights, args={"verbose": False, **asked})
    encoded = time.perf_counter()
    found = decode(stream)
    decoded = time.perf_counter()
    np.savez(target, **{name: np.asarray(value) for name, value in found.items()})
    told = {"size_bytes": len(stream), "encode_s": encoded - began, "decode_s": decoded - encoded}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
