import numpy as np
import onnx
import pytest
from quantize_nets import outputs

from narrows.graph.average_pool import with_average_pools
from narrows.graph.load import load


@pytest.mark.parametrize(
    ("attributes", "shape", "pooled"),
    [
        ("axes = [2, 3]", "4, 1, 1", True),
        ("axes = [-1, -2], keepdims = 1", "4, 1, 1", True),
        ("axes = [2, 3], keepdims = 0", "4", False),
        ("axes = [2]", "4, 1, 8", False),
        ("axes = [1, 2, 3]", "1, 1, 1", False),
    ],
)
def test_means_over_all_positions_pool(attributes: str, shape: str, pooled: bool) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 4, 8, 8] x) => (float[N, {shape}] y) {{y = ReduceMean<{attributes}>(x)}}"""
    proto = onnx.parser.parse_model(text)
    made = with_average_pools(load(proto))
    assert (made.graph.node[0].op_type == "GlobalAveragePool") == pooled
    x = np.random.default_rng(0).normal(size=(3, 4, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(outputs(made, x), outputs(proto, x), rtol=1e-5, atol=1e-6)
