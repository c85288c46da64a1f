"""Bytes that a call puts on the wire, from what the layers under it are known to add.

    frame  ⊂  protobuf message  ⊂  gRPC + HTTP/2 stream  ⊂  TCP/IP packets

The message's size is exact. What HTTP/2 adds to a call on a connection in use was counted with a
relay that sees the stream (grpcio 1.85): a HEADERS frame whose names are all in the compression
table by then, DATA frames of at most 16 KiB, two window updates and the trailers. TCP/IP adds a
header to every segment and to acknowledgements of their own. `benchmarks/wire.py` counts both
again, the packets at a virtual network interface, and compares.
"""

from __future__ import annotations

from typing import Final

CALL_UP_BYTES: Final = 58
"""HTTP/2 and gRPC around a request. A timeout unlike the last few costs up to 19 more."""

CALL_DOWN_BYTES: Final = 64
"""HTTP/2 and gRPC around a reply."""

FIRST_CALL_BYTES: Final = (313, 125)
"""What the first call on a connection adds, up and down; TCP's own handshake is not in it."""

PACKET_BYTES: Final = 52
"""IPv4 and TCP headers with timestamps. Ethernet would add 14, IPv6 20."""

SEGMENT_BYTES: Final = 1448
"""What a packet of 1500 bytes has room for."""

_DATA_BYTES: Final = 16_384
_DATA_HEADER_BYTES: Final = 9


def stream_bytes(request_bytes: int, response_bytes: int) -> tuple[int, int]:
    """Bytes of the two directions of a connection for one call, TCP/IP not counted.

    Args:
        request_bytes: Size of the request message.
        response_bytes: Size of the response message; 0 if none came.

    Example:
        >>> stream_bytes(1060, 72)
        (1118, 136)
    """
    up = CALL_UP_BYTES + request_bytes + _more_frames(request_bytes)
    down = CALL_DOWN_BYTES + response_bytes + _more_frames(response_bytes)
    return up, down if response_bytes else 0


def call_bytes(request_bytes: int, response_bytes: int) -> tuple[int, int]:
    """Bytes of the IP packets of one call, up and down.

    Every second full segment is acknowledged at once by a packet of its own; the last ones of a
    request are acknowledged with the reply, the reply itself by one packet.

    Example:
        >>> call_bytes(1060, 72)
        (1222, 188)
    """
    up, down = stream_bytes(request_bytes, response_bytes)
    segments_up, segments_down = -(-up // SEGMENT_BYTES), -(-down // SEGMENT_BYTES)
    packets_up = segments_up + (segments_down + 1) // 2
    packets_down = segments_down + max(0, segments_up - 1) // 2
    if not down:
        return up + segments_up * PACKET_BYTES, 0
    return up + packets_up * PACKET_BYTES, down + packets_down * PACKET_BYTES


def _more_frames(message_bytes: int) -> int:
    return (message_bytes + 5) // _DATA_BYTES * _DATA_HEADER_BYTES
