"""Counted multiply-accumulates against published ones, through the benchmark that counts them."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("timm")

BENCHMARK = "macs"
QUICK = ("torchvision:mobilenet_v2", "torchvision:resnet50")
SLOW = (
    "timm:mobilenetv1_100", "timm:mobilenetv2_050", "timm:mobilenetv2_100", "timm:mobilenetv2_140",
    "torchvision:mobilenet_v3_small", "torchvision:mobilenet_v3_large", "torchvision:vgg16",
    "torchvision:vgg19", "torchvision:googlenet", "torchvision:inception_v3", "timm:inception_v4",
    "torchvision:resnet101", "torchvision:resnet152", "timm:efficientnet_lite0",
    "timm:efficientnet_lite1", "timm:efficientnet_lite2",
)  # fmt: skip


def check(row):
    assert row.unknown == {}
    assert row.macs == pytest.approx(row.published.macs, rel=0.01)


@pytest.mark.parametrize("network", QUICK)
def test_macs_are_the_published_ones(benchmark, network, tmp_path, monkeypatch):
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path))
    check(benchmark.count(network))


@pytest.mark.slow
@pytest.mark.parametrize("network", SLOW)
def test_macs_of_larger_networks_are_the_published_ones(benchmark, network, tmp_path, monkeypatch):
    monkeypatch.setenv("NARROWS_CACHE", str(tmp_path))
    check(benchmark.count(network))


def test_what_torchvision_publishes_is_what_the_benchmark_says(benchmark):
    from torchvision.models import get_model_weights

    named = {name for name in benchmark.NETWORKS if name.startswith("torchvision:")}
    for name in named:
        weights = get_model_weights(name.partition(":")[2]).DEFAULT
        assert benchmark.NETWORKS[name].macs == pytest.approx(1e9 * weights.meta["_ops"])
    assert set(QUICK) | set(SLOW) == set(benchmark.NETWORKS)
