from __future__ import annotations

import errno
import os
import sys
import types
from pathlib import Path

import pytest

from narrows.config import from_dict, to_dict
from narrows.errors import MeasureError
from narrows.measure.sensors import (
    HwmonSensor,
    NoEnergy,
    PowercapSensor,
    find_sensors,
)
from narrows.measure.sensors import nvml as nvml_module
from narrows.measure.sensors.nvml import NvmlSensor, find_nvml


def zone(root: Path, folder: str, name: str, energy_uj: int = 1_000_000, **files: object) -> Path:
    place = root / "sys/class/powercap" / folder
    place.mkdir(parents=True)
    content = {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": 262_143_328_850}
    for file, text in (content | files).items():
        (place / file).write_text(f"{text}\n")
    return place


def chip(root: Path, folder: str, name: str, **files: object) -> Path:
    place = root / "sys/class/hwmon" / folder
    place.mkdir(parents=True)
    for file, text in ({"name": name} | files).items():
        (place / file).write_text(f"{text}\n")
    return place


def laptop(root: Path) -> None:
    (root / "sys/class/powercap/intel-rapl").mkdir(parents=True)  # the control type
    zone(root, "intel-rapl:0", "package-0", 5_000_000)
    zone(root, "intel-rapl:0:0", "core", 3_000_000)
    zone(root, "intel-rapl:0:1", "uncore", 1_000_000)
    zone(root, "intel-rapl:0:2", "dram", 700_000)
    zone(root, "intel-rapl:1", "psys", 9_000_000)
    zone(root, "intel-rapl-mmio:0", "package-0", 5_000_777)  # a second view of the first


def jetson(root: Path) -> None:
    labels = {"in1_label": "VDD_IN", "in2_label": "VDD_CPU_GPU_CV", "in3_label": "VDD_SOC"}
    values = {"in1_input": 5000, "in2_input": 5000, "in3_input": 4900}
    currents = {"curr1_input": 1200, "curr2_input": 400, "curr3_input": 300}
    traps = {"in4_input": 6, "in5_input": 2, "in6_input": 1, "in7_input": 9, "curr4_input": 1900}
    traps |= {"in7_label": "Sum of shunt voltages"}
    chip(root, "hwmon3", "ina3221", update_interval=35, **labels, **values, **currents, **traps)
    chip(root, "hwmon0", "soc_thermal", temp1_input=41000)


def test_packages_and_memory_are_summed_and_nothing_twice(tmp_path: Path) -> None:
    laptop(tmp_path)
    sensor = find_sensors(tmp_path).pick()
    assert isinstance(sensor, PowercapSensor)
    assert sensor.rails == ("package-0", "dram-0")
    assert sensor.read() == (5.0, 0.7)
    assert sensor.ranges_j == (262143.32885,) * 2


def test_two_sockets_have_two_packages(tmp_path: Path) -> None:
    for socket in "01":
        zone(tmp_path, f"intel-rapl:{socket}", f"package-{socket}")
        zone(tmp_path, f"intel-rapl:{socket}:0", "dram")
    sensor = find_sensors(tmp_path).pick("powercap")
    assert sensor.rails == ("package-0", "package-1", "dram-0", "dram-1")


@pytest.mark.parametrize("rails", [("psys",), ("core-0",), ("core-0", "uncore-0", "dram-0")])
def test_other_rails_can_be_chosen(tmp_path: Path, rails: tuple[str, ...]) -> None:
    laptop(tmp_path)
    assert find_sensors(tmp_path, rails=rails).pick().rails == rails


@pytest.mark.parametrize(
    ("rails", "message"),
    [
        (("package-0", "core-0"), "'package-0' contains 'core-0'"),
        (("psys", "dram-0"), "'psys' contains 'dram-0'"),
        (("package-0", "gpu"), "no rail 'gpu'"),
        (("package-0", "package-0"), "name each once"),
        (("gpu",), "no zone 'gpu'.*no /.*hwmon"),
    ],
)
def test_rails_that_cannot_be_summed_are_refused(
    tmp_path: Path, rails: tuple[str, ...], message: str
) -> None:
    laptop(tmp_path)
    with pytest.raises(MeasureError, match=message):
        find_sensors(tmp_path, rails=rails)


def test_the_second_view_of_a_package_counts_where_it_is_the_only_one(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 7_000_000)
    assert find_sensors(tmp_path).pick().read() == (7.0,)


def test_psys_stands_in_where_there_is_no_package(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "psys")
    assert find_sensors(tmp_path).pick().rails == ("psys",)


def test_a_counter_without_permission_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop(tmp_path)
    really_open = os.open

    def refuse(path: str, flags: int) -> int:
        if str(path).endswith("energy_uj"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    found = find_sensors(tmp_path).pick()
    assert isinstance(found, NoEnergy)
    assert f"sudo chmod a+r {tmp_path}/sys/class/powercap/*/energy_uj" in found.reason


def test_a_machine_without_sensors_says_why_for_every_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip(tmp_path, "hwmon0", "coretemp", temp1_input=40000)
    found = find_sensors(tmp_path)
    assert found.sensors == ()
    assert found.reasons == (
        f"powercap: there is no {tmp_path}/sys/class/powercap",
        f"hwmon: none of the 1 chips in {tmp_path}/sys/class/hwmon shows power or energy",
    )
    with pytest.raises(MeasureError, match="no sensor 'nvml:0' here: found none"):
        found.pick("nvml:0")


def test_the_input_of_a_jetson_stands_alone(tmp_path: Path) -> None:
    jetson(tmp_path)
    sensor = find_sensors(tmp_path).pick()
    assert isinstance(sensor, HwmonSensor)
    assert (sensor.title, sensor.rails) == ("hwmon:ina3221", ("VDD_IN",))
    assert sensor.read() == (6.0,)
    assert (sensor.kind, sensor.update_s) == ("power", 0.035)


def test_sums_and_shunts_of_an_ina3221_are_no_rails(tmp_path: Path) -> None:
    jetson(tmp_path)
    with pytest.raises(MeasureError, match=r"it has VDD_IN, VDD_CPU_GPU_CV, VDD_SOC$"):
        find_sensors(tmp_path, rails=("ina3221 4",))
    inner = find_sensors(tmp_path, rails=("VDD_CPU_GPU_CV", "VDD_SOC")).pick()
    assert isinstance(inner, HwmonSensor)
    assert inner.read() == pytest.approx((2.0, 1.47))


def test_two_ina3221_without_an_input_rail_are_summed(tmp_path: Path) -> None:
    for folder, labels in (("hwmon1", ("GPU", "CPU", "SOC")), ("hwmon2", ("CV", "NC", "SYS5V"))):
        files: dict[str, object] = {}
        for number, label in enumerate(labels, 1):
            files |= {f"in{number}_label": label, f"in{number}_input": 5000}
            files |= {f"curr{number}_input": 100 * number}
        chip(tmp_path, folder, "ina3221", **files)
    sensor = find_sensors(tmp_path).pick()
    assert sensor.rails == ("GPU", "CPU", "SOC", "CV", "SYS5V")
    assert sum(sensor.read()) == pytest.approx(0.5 * (1 + 2 + 3 + 1 + 3))


def test_a_hat_shows_its_power_or_its_energy(tmp_path: Path) -> None:
    shunt = {"in0_input": 10, "in1_input": 5080, "curr1_input": 500}
    chip(tmp_path, "hwmon1", "ina226", power1_input=2_550_000, update_interval=2, **shunt)
    chip(tmp_path, "hwmon2", "ina228", energy1_input=77_000_000, power1_input=1, **shunt)
    by_title = {sensor.title: sensor for sensor in find_sensors(tmp_path).sensors}
    assert by_title["hwmon:ina226"].read() == (2.55,)
    assert by_title["hwmon:ina228"].read() == (77.0,)
    assert by_title["hwmon:ina228"].kind == "energy"
    assert by_title["hwmon:ina226"].rails == ("ina226 1",)


def test_hats_of_one_kind_keep_their_rails_apart(tmp_path: Path) -> None:
    for folder in ("hwmon1", "hwmon2"):
        chip(tmp_path, folder, "ina219", power1_input=1_000_000)
    assert find_sensors(tmp_path).pick().rails == ("ina219 1 (hwmon1)", "ina219 1 (hwmon2)")


def test_a_supply_counts_its_input_and_not_its_outputs_too(tmp_path: Path) -> None:
    files = {"power1_label": "pin", "power1_input": 9_000_000}
    files |= {"power2_label": "pout1", "power2_input": 8_000_000}
    chip(tmp_path, "hwmon1", "pmbus", **files)
    chip(tmp_path, "hwmon2", "power_meter", power1_average=40_000_000, power1_average_interval=500)
    by_title = {sensor.title: sensor for sensor in find_sensors(tmp_path).sensors}
    assert by_title["hwmon:pmbus"].rails == ("pin",)
    assert by_title["hwmon:power_meter"].update_s == 0.5


def test_sockets_contain_their_cores(tmp_path: Path) -> None:
    files = {"energy1_label": "Ecore000", "energy1_input": 1_000_000}
    files |= {"energy2_label": "Esocket0", "energy2_input": 3_000_000}
    chip(tmp_path, "hwmon1", "amd_energy", **files)
    assert find_sensors(tmp_path).pick().rails == ("Esocket0",)


def test_voltage_and_current_of_a_battery_are_not_multiplied(tmp_path: Path) -> None:
    chip(tmp_path, "hwmon1", "BAT0", in0_input=12000, in1_input=12000, curr1_input=1500)
    assert find_sensors(tmp_path).sensors == ()


def test_a_channel_that_is_switched_off_is_left_out(tmp_path: Path) -> None:
    jetson(tmp_path)
    (tmp_path / "sys/class/hwmon/hwmon3/in1_enable").write_text("0\n")
    assert find_sensors(tmp_path).pick().rails == ("VDD_CPU_GPU_CV", "VDD_SOC")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-12", "shows -12"),
        ("n/a", "whole number"),
        ("1.5", "whole number"),
        ("", "holds ''"),
    ],
)
def test_a_rail_that_tells_nonsense_is_a_reason_at_the_search_and_an_error_later(
    tmp_path: Path, text: str, message: str
) -> None:
    jetson(tmp_path)
    sensor = find_sensors(tmp_path).pick()
    file = tmp_path / "sys/class/hwmon/hwmon3/curr1_input"
    file.write_text(text)
    with pytest.raises(MeasureError, match=message) as caught:
        sensor.read()
    assert str(file) in str(caught.value)
    assert str(file) in find_sensors(tmp_path).reasons[-1]


def test_a_board_comes_before_the_processor_and_other_chips(tmp_path: Path) -> None:
    laptop(tmp_path)
    jetson(tmp_path)
    chip(tmp_path, "hwmon5", "amdgpu", power1_average=30_000_000, power1_label="PPT")
    titles = [sensor.title for sensor in find_sensors(tmp_path).sensors]
    assert titles == ["hwmon:ina3221", "powercap", "hwmon:amdgpu"]


@pytest.mark.parametrize("make", [laptop, jetson])
def test_a_sensor_survives_json(tmp_path: Path, make: object) -> None:
    make(tmp_path)  # type: ignore[operator]
    sensor = find_sensors(tmp_path).pick()
    assert from_dict(type(sensor), to_dict(sensor)) == sensor


class NVMLError(Exception):
    pass


def fake_nvml(counters: dict[int, int | None], power_mw: int = 71_500) -> types.ModuleType:
    """A binding that knows some GPUs; None: one without a counter."""
    module = types.ModuleType("pynvml")

    def energy(device: int) -> int:
        value = counters[device]
        if value is None:
            raise NVMLError("Not Supported")
        return value

    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: len(counters)
    module.nvmlDeviceGetHandleByIndex = lambda index: index
    module.nvmlDeviceGetName = lambda device: f"GPU {device}"
    module.nvmlDeviceGetTotalEnergyConsumption = energy
    module.nvmlDeviceGetPowerUsage = lambda device: power_mw
    return module


@pytest.fixture
def fresh_nvml() -> object:
    def clear() -> None:
        nvml_module._nvml.cache_clear()
        nvml_module._device.cache_clear()

    clear()
    yield
    clear()


@pytest.mark.usefixtures("fresh_nvml")
def test_a_gpu_counts_and_an_old_one_shows_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml({0: 123_456, 1: None}))
    (new, old), why = find_nvml()
    assert (new.title, new.kind, new.read()) == ("nvml:0", "energy", (123.456,))
    assert (old.title, old.kind, old.read()) == ("nvml:1", "power", (71.5,))
    assert why == ""


@pytest.mark.usefixtures("fresh_nvml")
def test_a_gpu_that_shows_nothing_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml({0: 0}, power_mw=0))
    found, why = find_nvml()
    assert found == ()
    assert "neither energy nor power" in why


@pytest.mark.usefixtures("fresh_nvml")
def test_a_gpu_that_goes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    counters: dict[int, int | None] = {0: 5}
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(counters))
    sensor = NvmlSensor(index=0, label="GPU 0", counts=True)
    counters[0] = None
    with pytest.raises(MeasureError, match=r"GPU 0 .* cannot be read: Not Supported"):
        sensor.read()


@pytest.mark.usefixtures("fresh_nvml")
def test_without_the_binding_the_reason_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    found, why = find_nvml()
    assert found == ()
    assert "pip install 'narrows[nvml]'" in why
