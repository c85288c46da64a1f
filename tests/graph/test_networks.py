"""Exported networks, through the benchmark that examines them."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")

BENCHMARK = "cuts"
QUICK = ("lstm", "squeezenet1_1")
SLOW = (
    "gru", "mobilenet_v3_small", "vgg11", "resnet18", "resnet50", "mobilenet_v2",
    "mobilenet_v3_large", "efficientnet_lite0", "efficientnet_b0", "googlenet", "inception_v3",
    "densenet121", "shufflenet_v2_x1_0", "mnasnet1_0", "regnet_y_400mf", "convnext_tiny",
    "swin_t", "vit_tiny", "mobilevit_s", "resnet18_int8", "mobilenet_v2_int8",
    "efficientnet_lite0_int8",
)  # fmt: skip


def check(row):
    assert row.failures == ()
    assert row.brute_force
    assert row.exact == row.cuts > 5
    assert row.error_optimised <= 1e-5


@pytest.mark.parametrize("name", QUICK)
def test_every_cut_of_an_exported_network(benchmark, name):
    (row,) = benchmark.examine_all([name])
    check(row)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_cut_of_a_larger_exported_network(benchmark, name):
    (row,) = benchmark.examine_all([name])
    check(row)


def test_every_network_of_the_benchmark_is_tested(benchmark):
    downloads = {"efficientnet_lite0_trained"}
    assert set(QUICK) | set(SLOW) | downloads == set(benchmark.NETWORKS)
    assert len(benchmark.NETWORKS) >= 20
