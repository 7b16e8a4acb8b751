"""Packets of the Feetech bus: FF FF, identity, length, instruction or error, parameters, checksum."""

from collections.abc import Iterator
from dataclasses import dataclass

HEADER = b"\xff\xff"
PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x04, 0x05, 0x82, 0x83
BROADCAST = 0xFE
MAX_ID = 0xFC
MAX_LENGTH = 250  # [bytes] of a packet


@dataclass(frozen=True)
class Packet:
    """`code` is an instruction, or the error bits of an answer."""

    id: int
    code: int
    parameters: bytes = b""

    def to_bytes(self) -> bytes:
        """`ValueError` for what no packet can say."""
        if not (0 <= self.id <= MAX_ID or self.id == BROADCAST):
            raise ValueError(f"id {self.id}; allowed: 0 to {MAX_ID}, {BROADCAST} for all")
        if len(self.parameters) + 6 > MAX_LENGTH:
            raise ValueError(f"a packet of {len(self.parameters) + 6} bytes; allowed: at most {MAX_LENGTH}")
        body = bytes([self.id, len(self.parameters) + 2, self.code]) + self.parameters
        return HEADER + body + bytes([checksum(body)])


def checksum(body: bytes) -> int:
    """Of all bytes between header and checksum."""
    return ~sum(body) & 0xFF


def sync_read(address: int, size: int, ids: list[int]) -> Packet:
    return Packet(BROADCAST, SYNC_READ, bytes([address, size, *ids]))


def sync_write(address: int, values: dict[int, bytes]) -> Packet:
    """`values` by identity, all of one length."""
    (size,) = {len(value) for value in values.values()}
    return Packet(BROADCAST, SYNC_WRITE, bytes([address, size]) + b"".join(bytes([i]) + v for i, v in values.items()))


class Reader:
    """Finds packets in what a line delivers, byte by byte, whatever else lies between them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.n_skipped = 0  # [bytes] that were part of no packet
        self.n_corrupt = 0  # packets whose checksum or length was wrong

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Whole packets, in order; what is left waits for more."""
        self._buffer += data
        while True:
            start = self._buffer.find(HEADER)
            if start < 0:
                keep = int(self._buffer[-1:] == b"\xff")
                self._skip(len(self._buffer) - keep)
                return
            self._skip(start)
            while self._buffer[2:3] == b"\xff":  # the header's last two of several FF
                self._skip(1)
            if len(self._buffer) < 4:
                return
            length = self._buffer[3]
            if length < 2 or length + 4 > MAX_LENGTH:
                self.n_corrupt += 1
                self._skip(2)
                continue
            if len(self._buffer) < length + 4:
                return
            body = bytes(self._buffer[2 : length + 3])
            if checksum(body) != self._buffer[length + 3]:
                self.n_corrupt += 1
                self._skip(2)  # its header may have been noise, and a packet begin within it
                continue
            del self._buffer[: length + 4]
            yield Packet(body[0], body[2], body[3:])

    def clear(self) -> None:
        self._skip(len(self._buffer))

    def _skip(self, n: int) -> None:
        self.n_skipped += n
        del self._buffer[:n]
