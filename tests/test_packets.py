"""Packets and registers, byte for byte as the vendor's own programs write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot import packets
from robot import registers as r
from robot.packets import BROADCAST, Packet, Reader, sync_read, sync_write
from robot.registers import Register, error_names

ALL = [1, 2, 3, 4, 5, 6]
MIDDLE = r.GOAL_POSITION.encode(2048)
PROFILE = bytes([20]) + MIDDLE + b"\0\0" + r.GOAL_VELOCITY.encode(1000)
GOLDEN = [
    (Packet(1, packets.PING), "ff ff 01 02 01 fb"),
    (Packet(1, packets.READ, bytes([3, 2])), "ff ff 01 04 02 03 02 f3"),
    (Packet(1, packets.READ, bytes([56, 2])), "ff ff 01 04 02 38 02 be"),
    (Packet(1, packets.WRITE, b"\x2a" + r.GOAL_POSITION.encode(1500)), "ff ff 01 05 03 2a dc 05 eb"),
    (sync_read(56, 2, ALL), "ff ff fe 0a 82 38 02 01 02 03 04 05 06 26"),
    (sync_read(56, 15, ALL), "ff ff fe 0a 82 38 0f 01 02 03 04 05 06 19"),
    (sync_read(40, 1, ALL), "ff ff fe 0a 82 28 01 01 02 03 04 05 06 37"),
    (
        sync_write(42, dict.fromkeys(ALL, MIDDLE)),
        "ff ff fe 16 83 2a 02 01 00 08 02 00 08 03 00 08 04 00 08 05 00 08 06 00 08 f7",
    ),
    (
        sync_write(41, dict.fromkeys(ALL, PROFILE)),
        "ff ff fe 34 83 29 07 01 14 00 08 00 00 e8 03 02 14 00 08 00 00 e8 03 03 14 00 08 00 00 e8 03"
        " 04 14 00 08 00 00 e8 03 05 14 00 08 00 00 e8 03 06 14 00 08 00 00 e8 03 db",
    ),
    (
        Packet(2, packets.REG_WRITE, bytes.fromhex("29 32 e8 03 00 00 60 09")),
        "ff ff 02 0a 04 29 32 e8 03 00 00 60 09 40",
    ),
    (Packet(BROADCAST, packets.ACTION), "ff ff fe 02 05 fa"),
    (Packet(1, packets.WRITE, b"\x28\x01"), "ff ff 01 04 03 28 01 ce"),
    (Packet(1, packets.WRITE, b"\x37\x00"), "ff ff 01 04 03 37 00 c0"),
    (Packet(BROADCAST, packets.WRITE, b"\x28\x00"), "ff ff fe 04 03 28 00 d2"),
    (sync_write(40, dict.fromkeys(ALL, b"\0")), "ff ff fe 10 83 28 01 01 00 02 00 03 00 04 00 05 00 06 00 30"),
    (Packet(3, 0x20, MIDDLE), "ff ff 03 04 20 00 08 d0"),
    (Packet(1, packets.WRITE, b"\x1f" + r.HOMING_OFFSET.encode(-500)), "ff ff 01 05 03 1f f4 09 da"),
    (Packet(1, packets.WRITE, b"\x09" + r.MIN_POSITION.encode(700)), "ff ff 01 05 03 09 bc 02 2f"),
    (Packet(1, packets.WRITE, b"\x0b" + r.MAX_POSITION.encode(3300)), "ff ff 01 05 03 0b e4 0c fb"),
]


@pytest.mark.parametrize(("packet", "frame"), GOLDEN, ids=lambda x: x if isinstance(x, str) else "")
def test_frames_are_the_vendors(packet: Packet, frame: str) -> None:
    assert packet.to_bytes() == bytes.fromhex(frame)
    assert list(Reader().feed(bytes.fromhex(frame))) == [packet]


@given(st.lists(st.tuples(st.integers(0, 252), st.integers(0, 127), st.binary(max_size=40)), max_size=5), st.data())
def test_packets_are_found_in_pieces(drawn: list[tuple], data: st.DataObject) -> None:
    """However a line cuts them."""
    whole = [Packet(*x) for x in drawn]
    stream = b"".join(p.to_bytes() for p in whole)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader, found = Reader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += reader.feed(stream[start:end])
    assert found == whole
    assert reader.n_skipped == reader.n_corrupt == 0


@given(st.binary(max_size=30), st.integers(0, 252), st.binary(max_size=6))
def test_a_packet_behind_noise_is_found(noise: bytes, motor: int, parameters: bytes) -> None:
    """At the latest when the next ones come: noise may look like the beginning of a long packet."""
    packet = Packet(motor, 0, parameters)
    assert packet in list(Reader().feed(noise + packet.to_bytes() * 1 + Packet(1, 0).to_bytes() * 60))


def test_damaged_packets_are_counted() -> None:
    reader = Reader()
    frame = bytearray(Packet(1, 0, MIDDLE).to_bytes())
    frame[-2] ^= 1
    assert list(reader.feed(bytes(frame))) == []
    assert reader.n_corrupt == 1
    assert list(reader.feed(Packet(1, 0, MIDDLE).to_bytes())) == [Packet(1, 0, MIDDLE)]


@pytest.mark.parametrize(
    ("register", "value", "written"),
    [
        (r.HOMING_OFFSET, -500, 0x9F4),
        (r.HOMING_OFFSET, 2047, 0x7FF),
        (r.PRESENT_POSITION, -1, 0x8001),
        (r.PRESENT_LOAD, -300, 0x400 | 300),
        (r.GOAL_POSITION, 4095, 4095),
    ],
)
def test_signs_are_a_bit_of_their_own(register: Register, value: int, written: int) -> None:
    assert register.encode(value) == written.to_bytes(2, "little")
    assert register.decode(register.encode(value)) == value


@pytest.mark.parametrize(
    ("register", "value"), [(r.HOMING_OFFSET, 2048), (r.GOAL_POSITION, -32768), (r.LOCK, 256), (r.LOCK, -1)]
)
def test_what_does_not_fit_is_not_written(register: Register, value: int) -> None:
    with pytest.raises(ValueError, match=f"register {register.address} cannot hold {value}; allowed"):
        register.encode(value)


def test_what_no_packet_can_say() -> None:
    for packet, words in ((Packet(253, 1), "id 253"), (Packet(1, 3, bytes(245)), "251 bytes")):
        with pytest.raises(ValueError, match=words):
            packet.to_bytes()


def test_all_errors_are_named() -> None:
    assert error_names(0x25) == ["voltage", "overheating", "overload"]
    assert error_names(0x50) == ["bit 16", "bit 64"]
