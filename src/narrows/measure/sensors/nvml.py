"""NVML: the energy counter of an NVIDIA GPU, or its power where it has no counter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, ClassVar, final

from narrows.errors import MeasureError, MissingExtra
from narrows.measure.sensors.base import Kind, NoEnergy, PolledSensor


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlSensor(PolledSensor):
    """One GPU. `find_nvml` makes one for each.

    Args:
        index: Its number, in NVML's order.
        label: Its name.
        counts: Whether it has an energy counter (Volta and later). Else its power is read, which
            newer boards average over a second.

    Reference:
        NVML API reference: nvmlDeviceGetTotalEnergyConsumption (millijoules since the driver was
        loaded), nvmlDeviceGetPowerUsage (milliwatts).
    """

    name: ClassVar[str] = "nvml"
    index: int
    label: str
    counts: bool

    @property
    def title(self) -> str:
        """The GPU's number."""
        return f"{self.name}:{self.index}"

    @property
    def rails(self) -> tuple[str, ...]:
        """The whole board."""
        return (self.label,)

    @property
    def kind(self) -> Kind:
        """Counter or power."""
        return "energy" if self.counts else "power"

    @property
    def update_s(self) -> float | None:
        """NVML does not state it: it is found by reading."""
        return None

    @property
    def ranges_j(self) -> tuple[float | None, ...]:
        """The counter has 64 bits."""
        return (None,)

    def read(self) -> tuple[float, ...]:
        """Joules since the driver was loaded, or watts."""
        nvml = _nvml()
        try:
            device = _device(self.index)
            if self.counts:
                return (nvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1e3,)
            return (nvml.nvmlDeviceGetPowerUsage(device) / 1e3,)
        except nvml.NVMLError as error:
            msg = f"GPU {self.index} ({self.label}) cannot be read: {error}; is its driver loaded?"
            raise MeasureError(msg) from None


def find_nvml() -> tuple[tuple[NvmlSensor, ...], str]:
    """The GPUs of this machine, and why there is not one more."""
    try:
        nvml = _nvml()
    except (MissingExtra, MeasureError) as error:
        return (), f"nvml: {error}"
    found: list[NvmlSensor] = []
    reasons: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        sensor = _gpu(nvml, index)
        if isinstance(sensor, NoEnergy):
            reasons.append(sensor.reason)
        else:
            found.append(sensor)
    if not found and not reasons:
        reasons.append("nvml: the driver knows no GPU")
    return tuple(found), "; ".join(reasons)


def _gpu(nvml: ModuleType, index: int) -> NvmlSensor | NoEnergy:
    label = nvml.nvmlDeviceGetName(_device(index))
    problem: object = "it shows neither energy nor power"
    for counts in (True, False):
        sensor = NvmlSensor(index=index, label=label, counts=counts)
        try:
            if sensor.read()[0] > 0:
                return sensor
        except MeasureError as error:
            problem = error
    return NoEnergy(reason=f"nvml: {problem}")


@cache
def _nvml() -> ModuleType:
    """The binding, with the driver's library loaded."""
    try:
        import pynvml
    except ImportError:
        raise MissingExtra("reading the energy of an NVIDIA GPU", "nvml") from None
    module: ModuleType = pynvml
    try:
        module.nvmlInit()
    except module.NVMLError as error:
        msg = f"{error}: there is no NVIDIA driver here, or it is not loaded"
        raise MeasureError(msg) from None
    return module


@cache
def _device(index: int) -> Any:
    return _nvml().nvmlDeviceGetHandleByIndex(index)
