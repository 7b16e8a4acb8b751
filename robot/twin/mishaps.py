"""What can happen to an answer on its way: each makes of its bytes what arrives instead, and how late [s]."""

from robot.packets import Packet, checksum
from robot.twin.line import Mishap


def silent(_answer: bytes) -> list[tuple[float, bytes]]:
    return []


def corrupt(answer: bytes) -> list[tuple[float, bytes]]:
    """One bit of the last parameter flips, or of the error byte where there is none."""
    return [(0.0, answer[:-2] + bytes([answer[-2] ^ 1]) + answer[-1:])]


def short(answer: bytes) -> list[tuple[float, bytes]]:
    """A parameter less, with a checksum that agrees."""
    body = bytes([answer[2], answer[3] - 1]) + answer[4:-2]
    return [(0.0, answer[:2] + body + bytes([checksum(body)]))]


def twice(answer: bytes) -> list[tuple[float, bytes]]:
    return [(0.0, answer), (0.0, answer)]


def late(seconds: float) -> Mishap:
    return lambda answer: [(seconds, answer)]


def dripping(seconds: float) -> Mishap:
    """Byte by byte."""
    return lambda answer: [(seconds, answer[i : i + 1]) for i in range(len(answer))]


def foreign(motor: int) -> Mishap:
    """In front of it the same answer of a motor that nobody asked."""
    return lambda answer: [(0.0, Packet(motor, answer[4], answer[5:-1]).to_bytes() + answer)]


def noise(junk: bytes) -> Mishap:
    return lambda answer: [(0.0, junk + answer)]


def error(bits: int) -> Mishap:
    """With these error bits."""
    return lambda answer: [(0.0, Packet(answer[2], bits, answer[5:-1]).to_bytes())]
