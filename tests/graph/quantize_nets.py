"""A network of everything that stands between integer kernels, and inputs for it."""

import numpy as np
import onnx
from onnx import numpy_helper

from narrows.graph.ort import run, session

_NET = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3, 16, 16] x) => (float[N, 5] y) {
  [stem] c1 = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1, b1)
  n1 = BatchNormalization(c1, scale, shift, mean, var)
  zero = Constant<value = float {0.0}>()
  six = Constant<value = float {6.0}>()
  r1 = Clip(n1, zero, six)
  [depth] c2 = Conv<pads=[1,1,1,1], group=8>(r1, w2, b1)
  s2 = Sigmoid(c2)
  m2 = Mul(c2, s2)
  [point] c3 = Conv(m2, w3, b1)
  a3 = Add(c3, r1)
  p3 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a3)
  q3 = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a3)
  j3 = Concat<axis=1>(p3, q3)
  e = GlobalAveragePool(j3)
  f = Flatten(e)
  [head] y = Gemm<transB=1>(f, w4, b4)
}"""


def network(seed: int = 0) -> onnx.ModelProto:
    """Everything that stands between integer kernels: SiLU, residual, pools, concatenation."""
    rng = np.random.default_rng(seed)
    proto = onnx.parser.parse_model(_NET)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 1, 3, 3), "w3": (8, 8, 1, 1), "w4": (5, 16)}
    for name, shape in shapes.items():
        # Channels of very different size: one step for all would lose the small ones.
        sizes = 2.0 ** -np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        give(proto, name, rng.normal(size=shape) * (sizes if name != "w4" else 1))
    for name, values in (("b1", 0.1), ("shift", 0.2), ("mean", 0.1)):
        give(proto, name, rng.normal(0, values, size=8))
    give(proto, "scale", 2.0 ** np.arange(8))
    give(proto, "var", rng.uniform(0.5, 2, size=8))
    give(proto, "b4", rng.normal(size=5))
    return proto


def give(proto: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))


def samples(count: int = 24, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 16, 16)).astype(np.float32)


def outputs(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    (found,) = run(session(proto), {"x": x})
    return found
