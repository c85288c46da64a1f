"""What a plan must keep to, and the one thing it makes best."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import final

from narrows.errors import ConfigError


class Objective(StrEnum):
    """What is made best among the candidates that keep to the constraints."""

    ACCURACY = "accuracy"
    BYTES = "bytes"
    LATENCY = "latency"
    ENERGY = "energy"
    COST = "cost"
    DEVICE_MACS = "device-macs"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Bounds a candidate must keep to; None leaves a quantity free.

    Args:
        min_accuracy: Least metric on the choose set.
        max_drop: Most metric lost against the uncompressed model, e.g. 0.01 for a point.
        min_agreement: Least share of answers equal to the uncompressed model's.
        max_payload_bytes: Most bytes a payload has in the mean.
        max_latency_s: Deadline, from input to answer, the link's jitter included.
        max_energy_j: Most device energy a request.
        max_price: Most money a request.
        max_device_macs: Most multiply-accumulates on the device.
        max_device_memory_bytes: Most weights and activation peak on the device; the device
            profile's memory bounds it too.
        max_device_flash_bytes: Largest file on the device, packed where the model is.
        min_frames_per_s: Least answers a second when requests follow without a gap.

    Example:
        >>> Constraints(max_drop=0.01, max_latency_s=0.1).max_drop
        0.01
    """

    min_accuracy: float | None = None
    max_drop: float | None = None
    min_agreement: float | None = None
    max_payload_bytes: float | None = None
    max_latency_s: float | None = None
    max_energy_j: float | None = None
    max_price: float | None = None
    max_device_macs: float | None = None
    max_device_memory_bytes: float | None = None
    max_device_flash_bytes: float | None = None
    min_frames_per_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse bounds that nothing can meet.

        Raises:
            ConfigError: A bound that cannot be negative is, or is not a number.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            signed = field.name == "min_accuracy"  # some metrics are
            if value is None or ((value >= 0 or signed) and value == value):
                continue
            msg = f"constraint {field.name} = {value}: give a number that is not negative"
            raise ConfigError(msg)
