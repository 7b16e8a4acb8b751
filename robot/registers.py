"""Registers of the Feetech STS3215 servo: where they lie, how long they are, how their sign is written.

Little-endian. What the vendor's memory table says of model 777; addresses below 40 keep their value without power, and
are written only while the lock is open.
"""

from dataclasses import dataclass

MODEL = 777
TURN = 4096  # [ticks] of a revolution
LOCKED_BELOW = 40  # addresses that need LOCK = 0 to be written


@dataclass(frozen=True)
class Register:
    address: int
    size: int  # [bytes]
    sign_bit: int | None = None  # sign and magnitude: this bit says negative
    read_only: bool = False

    def encode(self, value: int) -> bytes:
        """The register's bytes; `ValueError` for what it cannot hold."""
        if self.sign_bit is None:
            if not 0 <= value < 256**self.size:
                raise ValueError(f"register {self.address} cannot hold {value}; allowed: 0 to {256**self.size - 1}")
            return value.to_bytes(self.size, "little")
        limit = (1 << self.sign_bit) - 1
        if abs(value) > limit:
            raise ValueError(f"register {self.address} cannot hold {value}; allowed: {-limit} to {limit}")
        return (abs(value) | (value < 0) << self.sign_bit).to_bytes(self.size, "little")

    def decode(self, data: bytes) -> int:
        value = int.from_bytes(data[: self.size], "little")
        if self.sign_bit is None:
            return value
        magnitude = value & ((1 << self.sign_bit) - 1)
        return -magnitude if value >> self.sign_bit & 1 else magnitude


FIRMWARE = Register(0, 2, read_only=True)  # major, minor
MODEL_NUMBER = Register(3, 2, read_only=True)
ID = Register(5, 1)
BAUD = Register(6, 1)  # 0: 1 Mbaud
RETURN_DELAY = Register(7, 1)  # [2 us]
RESPONSE_LEVEL = Register(8, 1)  # 0: only reading and pinging are answered
MIN_POSITION = Register(9, 2)  # [ticks] goals are clamped to these two
MAX_POSITION = Register(11, 2)
MAX_TEMPERATURE = Register(13, 1)  # [C]
MAX_TORQUE = Register(16, 2)  # [0.1 %]
PHASE = Register(18, 1)
P_GAIN = Register(21, 1)
D_GAIN = Register(22, 1)
I_GAIN = Register(23, 1)
PROTECTION_CURRENT = Register(28, 2)
HOMING_OFFSET = Register(31, 2, sign_bit=11)  # [ticks] present = actual - offset
MODE = Register(33, 1)  # 0: position
PROTECTIVE_TORQUE = Register(34, 1)  # [%] what is left after an overload
PROTECTION_TIME = Register(35, 1)  # [10 ms]
OVERLOAD_TORQUE = Register(36, 1)  # [%]
TORQUE_ENABLE = Register(40, 1)  # 0, 1; 128 would make the present position the middle: never sent
ACCELERATION = Register(41, 1)  # [100 ticks/s2]; 0: none of its own
GOAL_POSITION = Register(42, 2, sign_bit=15)  # [ticks]
GOAL_TIME = Register(44, 2)
GOAL_VELOCITY = Register(46, 2, sign_bit=15)  # unit: bit 2 of PHASE
TORQUE_LIMIT = Register(48, 2)  # [0.1 %]
LOCK = Register(55, 1)
PRESENT_POSITION = Register(56, 2, sign_bit=15, read_only=True)
PRESENT_VELOCITY = Register(58, 2, sign_bit=15, read_only=True)
PRESENT_LOAD = Register(60, 2, sign_bit=10, read_only=True)  # [0.1 %]
PRESENT_VOLTAGE = Register(62, 1, read_only=True)  # [0.1 V]
PRESENT_TEMPERATURE = Register(63, 1, read_only=True)  # [C]
STATUS = Register(65, 1, read_only=True)
MOVING = Register(66, 1, read_only=True)
PRESENT_CURRENT = Register(69, 2, sign_bit=15, read_only=True)  # [6.5 mA]
MAX_ACCELERATION = Register(85, 1)

# Error bits of a status packet and of STATUS.
ERRORS = {1: "voltage", 2: "encoder", 4: "overheating", 8: "over-current", 32: "overload"}


def error_names(bits: int) -> list[str]:
    """All errors that are set, those without a name by their bit."""
    return [ERRORS.get(1 << i, f"bit {1 << i}") for i in range(8) if bits >> i & 1]
