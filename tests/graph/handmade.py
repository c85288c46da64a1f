"""Small graphs of every kind, built by hand."""

import numpy as np
import onnx
from onnx import numpy_helper

HEADER = '<ir_version: 10, opset_import: ["" : 17]>\n'


def build(text, **weights):
    """A model from the text of its graph; an array is given, a shape stands for random weights."""
    rng = np.random.default_rng(5)
    proto = onnx.parser.parse_model(HEADER + text)
    for name, value in weights.items():
        if isinstance(value, tuple):
            value = rng.normal(0, 0.5, value).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return proto


def sequential():
    return build(
        """g (float[N, 3, 8, 8] x) => (float[N, 5] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, w1)
        b = Relu(a)
        c = Conv<strides = [2, 2]>(b, w2)
        d = GlobalAveragePool(c)
        e = Flatten(d)
        y = Gemm<transB = 1>(e, w3, bias)
        }""",
        w1=(4, 3, 3, 3),
        w2=(6, 4, 3, 3),
        w3=(5, 6),
        bias=(5,),
    )


def residual():
    return build(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, w1)
        b = Relu(a)
        c = Conv<pads = [1, 1, 1, 1]>(b, w2)
        d = Add(c, b)
        e = Relu(d)
        f = Sigmoid(e)
        y = Mul(e, f)
        }""",
        w1=(4, 3, 3, 3),
        w2=(4, 4, 3, 3),
    )


def concatenating():
    return build(
        """g (float[N, 3, 8, 8] x) => (float[N, 7] y) {
        s = Conv(x, w1)
        a = Conv(s, w2)
        b = MaxPool<kernel_shape = [3, 3], strides = [1, 1], pads = [1, 1, 1, 1]>(s)
        b2 = Conv(b, w3)
        c = Concat<axis = 1>(a, b2)
        d = Concat<axis = 1>(c, a)
        e = GlobalAveragePool(d)
        f = Flatten(e)
        y = MatMul(f, w4)
        }""",
        w1=(4, 3, 3, 3),
        w2=(3, 4, 1, 1),
        w3=(2, 4, 1, 1),
        w4=(8, 7),
    )


def two_branches():
    """No interior cut until the branches meet."""
    return build(
        """g (float[N, 4] x) => (float[N, 3] y) {
        a = MatMul(x, w1)
        b = MatMul(x, w2)
        ra = Relu(a)
        tb = Tanh(b)
        y = Add(ra, tb)
        }""",
        w1=(4, 3),
        w2=(4, 3),
    )


def shape_chain():
    """A reshape far from the tensor whose batch size it uses."""
    return build(
        """g (float[N, 3, 8, 8] x) => (float[N, 2] y) {
        a = Conv(x, w1)
        shape = Shape(a)
        batch = Gather<axis = 0>(shape, zero)
        target = Concat<axis = 0>(batch, rest)
        b = Relu(a)
        c = Conv(b, w2)
        d = Reshape(c, target)
        y = MatMul(d, w3)
        }""",
        w1=(4, 3, 3, 3),
        w2=(2, 4, 1, 1),
        w3=(72, 2),
        zero=np.array([0]),
        rest=np.array([72]),
    )


def folded_batch():
    """The batch shares an axis with windows; Shape with start and end, and Size, cross the cuts."""
    return build(
        """g (float[N, 4, 6] x) => (float[N, 6] y) {
        a = Relu(x)
        batch = Shape<start = 0, end = 1>(a)
        count = Size(a)
        windows = Reshape(a, fold)
        b = MatMul(windows, w1)
        c = Tanh(b)
        back = Concat<axis = 0>(batch, rest)
        d = Reshape(c, back)
        e = Exp(d)
        size = Cast<to = 1>(count)
        ratio = Div(size, size)
        f = Mul(e, ratio)
        total = ReduceMean<axes = [1], keepdims = 0>(f)
        y = Sigmoid(total)
        }""",
        w1=(6, 6),
        fold=np.array([-1, 6]),
        rest=np.array([4, 6]),
    )


def lstm():
    """The batch on axis 0, 1, 2, 1 and 0 again; the zero state is made from the batch size."""
    return build(
        """g (float[N, 7, 3] x) => (float[N, 2] y) {
        shape = Shape(x)
        batch = Gather<axis = 0>(shape, zero)
        state = Concat<axis = 0>(two, batch, width)
        h0 = ConstantOfShape(state)
        c0 = ConstantOfShape(state)
        t = Transpose<perm = [1, 0, 2]>(x)
        r = Relu(t)
        all, last, cell = LSTM<hidden_size = 5, direction = "bidirectional">(r, w, u, b, , h0, c0)
        s = ReduceSum<keepdims = 0>(all, one)
        p = ReduceMean<axes = [0], keepdims = 0>(s)
        y = MatMul(p, w3)
        }""",
        w=(2, 20, 3),
        u=(2, 20, 5),
        b=(2, 40),
        w3=(5, 2),
        zero=np.array([0]),
        one=np.array([1]),
        two=np.array([2]),
        width=np.array([5]),
    )


def gru():
    """Both outputs of the GRU are used: neither alone is a cut."""
    return build(
        """g (float[N, 7, 3] x) => (float[N, 2] y) {
        t = Transpose<perm = [1, 0, 2]>(x)
        all, last = GRU<hidden_size = 5>(t, w, u)
        s = ReduceMax<axes = [0, 1], keepdims = 0>(all)
        l = Squeeze(last, zero)
        p = Add(s, l)
        y = MatMul(p, w3)
        }""",
        w=(1, 15, 3),
        u=(1, 15, 5),
        w3=(5, 2),
        zero=np.array([0]),
    )


def quantized():
    """QDQ around two convolutions with a residual; int8 weights per channel."""
    rng = np.random.default_rng(2)
    scale = np.float32(0.05)
    steps = {f"s{i}": np.float32(0.03 + 0.01 * i) for i in range(6)}
    zeros = {f"z{i}": np.uint8(128) for i in range(6)}
    return build(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 4, 4] y) {
        q0 = QuantizeLinear(x, s0, z0)
        d0 = DequantizeLinear(q0, s0, z0)
        k1 = DequantizeLinear<axis = 0>(w1, sw, zw)
        c1 = Conv<pads = [1, 1, 1, 1]>(d0, k1)
        r1 = Relu(c1)
        q1 = QuantizeLinear(r1, s1, z1)
        d1 = DequantizeLinear(q1, s1, z1)
        k2 = DequantizeLinear<axis = 0>(w2, sw, zw)
        c2 = Conv<pads = [1, 1, 1, 1]>(d1, k2)
        q2 = QuantizeLinear(c2, s2, z2)
        d2 = DequantizeLinear(q2, s2, z2)
        a = Add(d2, d1)
        q3 = QuantizeLinear(a, s3, z3)
        d3 = DequantizeLinear(q3, s3, z3)
        p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d3)
        q4 = QuantizeLinear(p, s3, z3)
        y = DequantizeLinear(q4, s3, z3)
        }""",
        w1=rng.integers(-100, 100, (4, 3, 3, 3)).astype(np.int8),
        w2=rng.integers(-100, 100, (4, 4, 3, 3)).astype(np.int8),
        sw=np.full(4, scale / 50),
        zw=np.zeros(4, np.int8),
        **steps,
        **zeros,
    )


def integer_operators():
    """Integer kernels without QDQ: whatever is 8-bit may be cut."""
    rng = np.random.default_rng(4)
    return build(
        """g (float[N, 3, 8, 8] x) => (float[N, 4, 3, 3] y) {
        q = QuantizeLinear(x, s0, z0)
        c = QLinearConv(q, s0, z0, w, sw, zw, s1, z0)
        p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
        y = DequantizeLinear(p, s1, z0)
        }""",
        w=rng.integers(-100, 100, (4, 3, 3, 3)).astype(np.int8),
        s0=np.float32(0.03),
        s1=np.float32(0.05),
        sw=np.float32(0.001),
        z0=np.uint8(128),
        zw=np.int8(0),
    )


def two_outputs():
    """The first output is a cut of its own: the second is computed from it."""
    return build(
        """g (float[N, 4] x) => (float[N, 3] features, float[N, 2] y) {
        a = MatMul(x, w1)
        features = Relu(a)
        y = MatMul(features, w2)
        }""",
        w1=(4, 3),
        w2=(3, 2),
    )


def captured():
    """A subgraph reads a value from outside, without naming it among its node's inputs."""
    return build(
        """g (float[N, 4] x) => (float[N, 4] y) {
        a = Relu(x)
        b = Tanh(a)
        c = If(always) <
            then_branch = then () => (float[N, 4] t) {t = Add(b, a)},
            else_branch = other () => (float[N, 4] e) {e = Identity(b)}
        >
        y = Exp(c)
        }""",
        always=np.array(True),
    )


ALL = {
    make.__name__: make
    for make in (
        sequential, residual, concatenating, two_branches, shape_chain, folded_batch, lstm, gru,
        quantized, integer_operators, two_outputs, captured,
    )
}  # fmt: skip


def samples(model, count=3, seed=1):
    """Different random samples for a model."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(model.input.at(count)).astype(model.input.dtype)
