"""One emulated STS3215: its registers, what writing them does, and where its motion profile stands."""

from robot import registers as r
from robot.registers import LOCKED_BELOW, TURN, Register

SIZE = 128  # [bytes] of registers
RECENTRE = 128  # written to TORQUE_ENABLE: the present position becomes the middle
COARSE, FINE = 50, 1  # [ticks/s] of a unit of GOAL_VELOCITY, by bit 2 of PHASE
FACTORY = {
    r.FIRMWARE: 3 | 10 << 8,
    r.MODEL_NUMBER: r.MODEL,
    r.RETURN_DELAY: 250,
    r.RESPONSE_LEVEL: 1,
    r.MAX_POSITION: TURN - 1,
    r.MAX_TEMPERATURE: 70,
    r.MAX_TORQUE: 1000,
    r.PHASE: 12,
    r.P_GAIN: 32,
    r.D_GAIN: 32,
    r.PROTECTION_CURRENT: 500,
    r.PROTECTIVE_TORQUE: 20,
    r.PROTECTION_TIME: 200,
    r.OVERLOAD_TORQUE: 80,
    r.TORQUE_LIMIT: 1000,
    r.LOCK: 1,
    r.PRESENT_VOLTAGE: 120,
    r.PRESENT_TEMPERATURE: 32,
    r.MAX_ACCELERATION: 254,
}
READ_ONLY = [x for x in vars(r).values() if isinstance(x, Register) and x.read_only]


class Servo:
    """A servo at `actual` ticks, counted from its encoder's zero and not wrapped; physics moves it there.

    `advance` moves the profile's set point; whoever owns the servo drives `actual` after it as far as torque allows.
    """

    def __init__(self, motor: int, actual: float = TURN / 2) -> None:
        self.memory = bytearray(SIZE)
        for register, value in FACTORY.items():
            self._put(register, value)
        self._put(r.ID, motor)
        self.actual = actual  # [ticks]
        self.velocity = 0.0  # [ticks/s] of `actual`
        self.load = 0.0  # share of the stall torque, signed
        self.errors = 0  # bits
        self.setpoint: float | None = None  # [ticks] of `actual`; None: torque is off
        self._speed = 0.0  # [ticks/s] of the set point
        self._prepared: tuple[int, bytes] | None = None

    def get(self, register: Register) -> int:
        return register.decode(bytes(self.memory[register.address : register.address + register.size]))

    @property
    def answers_writes(self) -> bool:
        return self.get(r.RESPONSE_LEVEL) > 0

    @property
    def torque_share(self) -> float:
        """Of the stall torque, what it may use now."""
        if self.errors & 32:
            return self.get(r.PROTECTIVE_TORQUE) / 100
        return min(self.get(r.TORQUE_LIMIT), self.get(r.MAX_TORQUE)) / 1000

    def read(self, address: int, size: int) -> bytes:
        self._refresh()
        return bytes(self.memory[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        """As the servo does: what is locked or read only stays as it is, without a word."""
        if address + len(data) > SIZE:
            return
        for i, value in enumerate(data, address):
            locked = i < LOCKED_BELOW and self.get(r.LOCK)
            if not locked and not any(x.address <= i < x.address + x.size for x in READ_ONLY):
                self.memory[i] = value
        touched = range(address, address + len(data))
        if r.TORQUE_ENABLE.address in touched:
            self._torque(self.get(r.TORQUE_ENABLE))
        if r.GOAL_POSITION.address in touched:
            self.errors &= ~32  # an overload ends with a new goal
            if not self.get(r.TORQUE_ENABLE):
                self._put(r.TORQUE_ENABLE, 1)  # a goal switches it on
            self._hold()

    def heat(self, celsius: int) -> None:
        self._put(r.PRESENT_TEMPERATURE, celsius)

    def prepare(self, address: int, data: bytes) -> None:
        self._prepared = (address, data)

    def act(self) -> None:
        if self._prepared is not None:
            self.write(*self._prepared)
            self._prepared = None

    def advance(self, seconds: float) -> None:
        """Move the set point towards the goal, as fast as the registers of speed and acceleration allow."""
        if self.setpoint is None:
            return
        low, high = self.get(r.MIN_POSITION), self.get(r.MAX_POSITION)
        goal = min(max(self.get(r.GOAL_POSITION), low), high) + self._beginning()
        unit = FINE if self.get(r.PHASE) & 4 else COARSE
        fastest = abs(self.get(r.GOAL_VELOCITY)) * unit or 3400.0  # what it turns at without a load
        gain = 100.0 * self.get(r.ACCELERATION) or 1e6
        left = goal - self.setpoint
        wanted = min(fastest, (2 * gain * abs(left)) ** 0.5) * (1 if left > 0 else -1)
        self._speed += min(max(wanted - self._speed, -gain * seconds), gain * seconds)
        step = self._speed * seconds
        if abs(step) >= abs(left) and step * left >= 0:
            self.setpoint, self._speed = float(goal), 0.0
        else:
            self.setpoint += step

    def _torque(self, value: int) -> None:
        if value == RECENTRE:
            self._put(r.HOMING_OFFSET, round(self.actual) - TURN // 2)
            self._put(r.TORQUE_ENABLE, 0)
            value = 0
        self.errors &= ~32
        if value:
            self._hold()
        else:
            self.setpoint, self._speed = None, 0.0

    def _hold(self) -> None:
        if self.setpoint is None:
            self.setpoint = self.actual

    def _beginning(self) -> int:
        """[ticks] of `actual` where the present turn's positions begin: they are 0 to 4095, and jump at the seam."""
        offset = self.get(r.HOMING_OFFSET)
        return offset + (round(self.actual) - offset) // TURN * TURN

    def _refresh(self) -> None:
        self._put(r.PRESENT_POSITION, round(self.actual) - self._beginning())
        self._put(r.PRESENT_VELOCITY, round(self.velocity))
        self._put(r.PRESENT_LOAD, max(-1000, min(1000, round(1000 * self.load))))
        self._put(r.PRESENT_CURRENT, round(abs(self.load) * 400))
        self._put(r.STATUS, self.errors)
        self._put(r.MOVING, int(abs(self.velocity) > 10))

    def _put(self, register: Register, value: int) -> None:
        self.memory[register.address : register.address + register.size] = register.encode(value)
