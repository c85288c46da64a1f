"""Seconds, joules and bytes as text. SI inside; this module alone formats numbers for people."""


def bytes_text(size_bytes: float) -> str:
    """Bytes in decimal units.

    Example:
        >>> bytes_text(4231), bytes_text(18_600_000), bytes_text(96)
        ('4.23 kB', '18.6 MB', '96 B')
    """
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def _scaled(value: float, unit: str) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "µ")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value * 1e9:.3g} n{unit}" if value else f"0 {unit}"


def seconds_text(time_s: float) -> str:
    """Seconds with a fitting prefix.

    Example:
        >>> seconds_text(0.00321), seconds_text(2.5)
        ('3.21 ms', '2.5 s')
    """
    return _scaled(time_s, "s")


def joules_text(energy_j: float) -> str:
    """Joules with a fitting prefix.

    Example:
        >>> joules_text(0.0125)
        '12.5 mJ'
    """
    return _scaled(energy_j, "J")


def macs_text(macs: float) -> str:
    """Multiply-accumulates with a fitting prefix.

    Example:
        >>> macs_text(385_000_000)
        '385 MMACs'
    """
    return _scaled(macs, "MACs")


def bandwidth_text(bandwidth_bits_per_s: float) -> str:
    """Bits a second with a fitting prefix.

    Example:
        >>> bandwidth_text(250_000)
        '250 kbit/s'
    """
    return _scaled(bandwidth_bits_per_s, "bit/s")


def percent_text(share: float) -> str:
    """A share between 0 and 1 as per cent.

    Example:
        >>> percent_text(0.8275)
        '82.8 %'
    """
    return f"{share * 100:.1f} %"
