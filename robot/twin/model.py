"""The twin's world as a MuJoCo model: an SO-100 of boxes and cylinders, a table, a cup and a saucer, one camera.

Links, joints and limits are those of `robot/kinematics.py`; shapes are plain, so that pictures are quick to draw.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from robot.kinematics import LIMITS, PAN, RADIAL, UP, WRIST
from robot.twin.tables import PAINTED
from videopolicy.errors import BadInput

JAW = (0.0244, 0.0202)  # of its axis, along the hand and to its side, from the roll joint [m]
JAW_RANGE = (-0.62, 1.1)  # [rad] closed, open
FIXED_PAD = -0.026  # of the other finger's inner face, to the hand's side [m]
MOUNT = 0.0165  # of the pan joint above the table [m]
CUP_RADIUS, CUP_HEIGHT = 0.016, 0.05  # [m]
SAUCER_RADIUS, SAUCER_HEIGHT = 0.045, 0.006
TABLES = ("plain", "checks", "stripes", "speckles", *PAINTED)  # materials of the table
LIT = (0.2, 0.0, 0.0)  # the middle of where things stand [m]
BOARD = (0.15, 0.125)  # of the calibration board, its margin with it [m]


@dataclass(frozen=True)
class Look:
    """What the scene looks like, beside where things are."""

    table: str = "plain"
    wall: tuple[float, float, float] = (0.55, 0.6, 0.65)
    lamp: tuple[float, float, float] = (0.0, 0.0, 1.2)  # where it hangs [m], turned to `LIT`
    brightness: float = 0.7

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise BadInput(f"look.table is {self.table!r}; allowed: {', '.join(TABLES)}")


def mjcf(image_size: tuple[int, int], fovy: float, board: bool) -> str:
    """The model as XML; `fovy` of the camera [degrees]; `board`: there is a picture `board.png` to print on a plate.

    Its files are those of `tables.files()`, and that picture.
    """
    width, height = image_size
    low, high = LIMITS.T
    plate = _plate() if board else ""
    painted = "".join(
        f'<texture name="{name}" type="2d" file="{name}.png"/><material name="{name}" texture="{name}"/>'
        for name in PAINTED
    )
    held = '<body name="board" mocap="true"><geom class="seen" type="mesh" mesh="board" material="board"/></body>'
    printed = '<texture name="board" type="2d" file="board.png"/><material name="board" texture="board"/>'
    return f"""
<mujoco model="twin">
  <compiler angle="radian" autolimits="true"/>
  <option timestep="0.002" integrator="implicitfast" cone="elliptic" impratio="10"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <headlight ambient="0.35 0.35 0.35" diffuse="0.25 0.25 0.25" specular="0 0 0"/>
    <quality shadowsize="1024" offsamples="0"/>
    <map znear="0.02" zfar="20"/>
  </visual>
  <default>
    <joint damping="0.08" armature="0.02" frictionloss="0.06" solreflimit="0.004 1"/>
    <geom condim="4" friction="0.4 0.02 0.0002" solref="0.01 1"/>
    <default class="seen"><geom contype="0" conaffinity="0" density="0"/></default>
    <default class="printed"><geom rgba="0.95 0.5 0.12 1" contype="0" conaffinity="0"/></default>
    <default class="motor"><geom rgba="0.12 0.12 0.13 1" contype="0" conaffinity="0" density="0"/></default>
    <default class="pad"><geom type="box" rgba="0.85 0.45 0.1 1" friction="1.6 0.05 0.001" density="600"/></default>
  </default>
  <asset>
    <texture name="checks" type="2d" builtin="checker" rgb1="0.3 0.42 0.35" rgb2="0.5 0.6 0.5" width="256"
             height="256"/>
    <texture name="stripes" type="2d" builtin="gradient" rgb1="0.55 0.35 0.2" rgb2="0.75 0.55 0.35" width="256"
             height="256"/>
    <texture name="speckles" type="2d" builtin="flat" mark="random" random="0.08" rgb1="0.4 0.25 0.2"
             markrgb="0.75 0.7 0.5" width="256" height="256"/>
    <material name="plain" rgba="0.72 0.66 0.58 1"/>
    <material name="checks" texture="checks" texrepeat="12 12"/>
    <material name="stripes" texture="stripes" texrepeat="9 1"/>
    <material name="speckles" texture="speckles" texrepeat="2 2"/>
    {painted}
    <material name="wall" rgba="0.55 0.6 0.65 1"/>
    {printed + plate if board else ""}
  </asset>
  <worldbody>
    <light name="lamp" pos="0 0 1.2" diffuse="0.7 0.7 0.7" castshadow="true" cutoff="45" exponent="1"/>
    <camera name="camera" pos="0.5 0 0.5" fovy="{fovy}"/>
    <geom name="table" type="box" pos="0.3 0 -0.02" size="0.6 0.6 0.02" material="plain"/>
    <geom class="seen" type="box" pos="-0.6 0 0.5" size="0.01 1.5 1.0" material="wall"/>
    <geom class="seen" type="box" pos="0.3 0 -0.6" size="3 3 0.01" material="wall"/>
    <geom class="printed" type="box" pos="0 0 0.02" size="0.05 0.04 0.02"/>
    <body name="pan" pos="{PAN[0]} {PAN[1]} {MOUNT}">
      <joint name="shoulder_pan" axis="0 0 1" range="{low[0]} {high[0]}"/>
      <geom class="printed" type="cylinder" pos="0 0 0.03" size="0.028 0.03" mass="0.12"/>
      <geom class="motor" type="box" pos="{RADIAL / 2} 0 {UP - MOUNT - 0.03}" size="0.025 0.02 0.03"/>
      <body name="upper" pos="{RADIAL} 0 {UP - MOUNT}">
        <joint name="shoulder_lift" axis="0 1 0" range="{low[1]} {high[1]}"/>
        <geom class="printed" type="capsule" fromto="0 0 0 0.11257 0 -0.028" size="0.016" mass="0.16"/>
        <geom class="motor" type="cylinder" euler="1.5708 0 0" size="0.02 0.026"/>
        <body name="lower" pos="0.11257 0 -0.028">
          <joint name="elbow_flex" axis="0 1 0" range="{low[2]} {high[2]}"/>
          <geom class="printed" type="capsule" fromto="0 0 0 0.1349 0 0.0052" size="0.014" mass="0.15"/>
          <geom class="motor" type="cylinder" euler="1.5708 0 0" size="0.019 0.024"/>
          <body name="wrist" pos="0.1349 0 0.0052">
            <joint name="wrist_flex" axis="0 1 0" range="{low[3]} {high[3]}"/>
            <geom class="printed" type="box" pos="0.03 0 0" size="0.025 0.014 0.014" mass="0.07"/>
            <geom class="motor" type="cylinder" euler="1.5708 0 0" size="0.017 0.022"/>
            <body name="hand" pos="{WRIST} 0 0">
              <joint name="wrist_roll" axis="-1 0 0" range="{low[4]} {high[4]}"/>
              <geom class="printed" type="box" pos="0.012 0 0" size="0.014 0.024 0.016" mass="0.08"/>
              <geom class="pad" pos="0.062 {FIXED_PAD - 0.0025} 0" size="0.038 0.0025 0.011"/>
              <site name="tool" pos="0.1 0 0" size="0.003" rgba="0 0 0 0"/>
              <body name="jaw" pos="{JAW[0]} {JAW[1]} 0">
                <joint name="gripper" axis="0 0 1" range="{JAW_RANGE[0]} {JAW_RANGE[1]}"/>
                <geom class="pad" pos="0.04 0.0025 0" size="0.0355 0.0025 0.011"/>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
    <body name="cup" pos="0.22 0.08 {CUP_HEIGHT / 2}">
      <freejoint name="cup"/>
      <geom name="cup" type="cylinder" size="{CUP_RADIUS} {CUP_HEIGHT / 2}" rgba="0.15 0.35 0.8 1" mass="0.04"/>
      <geom class="seen" type="cylinder" pos="0 0 {CUP_HEIGHT / 2}" size="0.012 0.001" rgba="0.05 0.1 0.3 1"/>
    </body>
    <body name="saucer" pos="0.22 -0.08 {SAUCER_HEIGHT / 2}">
      <freejoint name="saucer"/>
      <geom name="saucer" type="cylinder" size="{SAUCER_RADIUS} {SAUCER_HEIGHT / 2}" rgba="0.9 0.9 0.92 1" mass="0.15"/>
      <geom class="seen" type="cylinder" pos="0 0 {SAUCER_HEIGHT / 2}" size="0.025 0.0002" rgba="0.8 0.3 0.3 1"/>
    </body>
    {held if board else ""}
  </worldbody>
</mujoco>"""


def looking(position: Float[np.ndarray, " 3"], at: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "4 4"]:
    """The pose of an upright camera at a position that looks at a point; axes as OpenCV's."""
    ahead = (at - position) / np.linalg.norm(at - position)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], 1)
    T[:3, 3] = position
    return T


def _plate() -> str:
    """A thin box whose upper face bears the whole picture: u along x, v against y, which is what MuJoCo calls 1 - v."""
    x, y, z = BOARD[0] / 2, BOARD[1] / 2, 0.001
    corners = np.array([[-x, -y], [x, -y], [x, y], [-x, y]])
    vertices = [*((a, b, z) for a, b in corners), *((a, b, -z) for a, b in corners)]
    # The lower corners bear the picture's edge, which is white.
    texture = [(0, 1), (1, 1), (1, 0), (0, 0)] + [(0, 0)] * 4
    faces = [0, 1, 2, 0, 2, 3, 4, 6, 5, 4, 7, 6, 0, 4, 5, 0, 5, 1, 1, 5, 6, 1, 6, 2, 2, 6, 7, 2, 7, 3, 3, 7, 4, 3, 4, 0]
    return (
        f'<mesh name="board" vertex="{_said(vertices)}" texcoord="{_said(texture)}"'
        f' face="{" ".join(map(str, faces))}"/>'
    )


def _said(rows: list) -> str:
    return " ".join(f"{x:g}" for row in rows for x in row)
