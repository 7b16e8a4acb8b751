"""Any LIBERO task as a playground: its objects thrown about, its light, colours and cameras varied."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from eval.markers import find_markers
from eval.orbit import GAZE, level
from eval.simulation import RGB, START, Simulation, read_task
from eval.surface import in_world
from videopolicy.camera import Camera

REACH = np.array([[-0.40, -0.30], [0.02, 0.30]])  # objects are put here [m]
CLEARANCE, FIXTURE_CLEARANCE = 0.12, 0.20  # between objects, and to furniture [m]
CLOSE_SIZE = 0.075  # the widest object that the fingers can close around [m]
FLAT = 0.03  # [m]: lower objects (plates) are not picked


@dataclass(frozen=True)
class Box:
    """Axis-aligned bounds of an object [m]."""

    low: Float[np.ndarray, " 3"]
    high: Float[np.ndarray, " 3"]

    @property
    def middle(self) -> Float[np.ndarray, " 3"]:
        return (self.low + self.high) / 2


class Playground(Simulation):
    """A task's scene, reset to random layouts; several cameras of one episode are rendered in turn."""

    def __init__(self, task: str, image_size: int) -> None:
        super().__init__(read_task(task), image_size)
        self._model: Any = self._sim.model._model
        self.task = task
        self.objects = sorted(n for n, o in self._env.objects_dict.items() if o.joints)
        self.fixtures = sorted(n for n in self._env.fixtures_dict if n in self._env.obj_body_id)
        self._camera_id = self._model.camera(self._camera_name).id
        self._default = _appearance(self._model)
        self._home = self.move_to_start()
        # Objects on or in furniture stay there.
        self.loose = [n for n in self.objects if self.bounds(n).low[2] < 0.03]
        self.placed = self.lifted = False  # an executor asks; here nothing ends an episode early

    def reset(self, rng: np.random.Generator, layout: bool, appearance: bool) -> None:
        """A new episode: objects where the task has them, or thrown about; colours and lights its own, or varied."""
        self.restore(self._home)
        _set_appearance(self._model, self._default)
        if appearance:
            self._vary_appearance(rng)
        self.forward()
        if layout:
            self._scatter(rng)
        start = START + rng.uniform([-0.12, -0.20, -0.08], [0.10, 0.20, 0.10])
        for _ in range(16):
            self.control(start, 1.0)
        self.n_control_steps = 0

    def bounds(self, name: str) -> Box:
        """Bounds of an object from those of its geoms."""
        model, data = self._model, self._sim.data._data
        root = self._env.obj_body_id[name]
        geoms = np.flatnonzero(model.body_rootid[model.geom_bodyid] == root)
        signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), -1).reshape(-1, 3)
        corners = [in_world(model, data, g, signs * model.geom_aabb[g, 3:]) for g in geoms]
        points = np.concatenate(corners) - self._origin
        return Box(points.min(0), points.max(0))

    def pickable(self) -> list[str]:
        """Loose objects within reach that a two-finger gripper can take from above."""
        found = []
        for name in self.loose:
            box = self.bounds(name)
            centre = box.middle[:2]
            inside = (centre > REACH[0] - 0.05).all() and (centre < REACH[1] + 0.05).all()
            if inside and box.high[2] - box.low[2] > FLAT and box.low[2] > -0.02:
                found.append(name)
        return found

    def grasp(self, name: str) -> Float[np.ndarray, " 3"]:
        """Where the grip site goes: around the middle of a narrow object, around the rim of a wide one."""
        box = self.bounds(name)
        centre = box.middle
        height = max(box.low[2] + 0.012, box.high[2] - 0.035)
        rim = 0.0 if box.high[1] - box.low[1] < CLOSE_SIZE else (box.high[1] - box.low[1]) / 2 - 0.012
        return np.array([centre[0], centre[1] + rim, height])

    def self_test(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Floating markers that the present camera sees, and the pictures with and without them.

        Raises `BadInput` when image and calibration disagree. The arm is put back to its start.
        """
        pose = (
            self._model.cam_pos[self._camera_id] - self._origin,
            self._model.cam_quat[self._camera_id].copy(),
        )
        self.restore(self._home)
        self.forward()
        self.look(*pose)
        return find_markers(self, tolerance=4.0)  # nearer, larger balls than on a table

    # -- cameras ---------------------------------------------------------------------------------------------------

    def random_camera(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A camera in front of the robot that looks near the middle of the table, image up kept level."""
        azimuth, elevation = rng.uniform(-0.7, 0.7), rng.uniform(0.45, 1.2)
        distance = rng.uniform(0.95, 1.35)
        away = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
        target = GAZE + rng.uniform(-0.08, 0.08, 3)
        return target + distance * away, level(away)

    def views(self, poses: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[UInt8[np.ndarray, "h w 3"], Camera]]:
        """Pictures of this moment from several cameras."""
        found = []
        for pose in poses:
            self.look(*pose)
            found.append((self.render(), self.camera))
        return found

    # -- randomness ------------------------------------------------------------------------------------------------

    def _scatter(self, rng: np.random.Generator) -> None:
        """Throw loose objects about: apart from each other and from the furniture, where 50 tries find a place."""
        taken = [(self.position(n)[:2], FIXTURE_CLEARANCE) for n in self.fixtures]
        taken += [(self.position(n)[:2], CLEARANCE) for n in self.objects if n not in self.loose]
        for name in rng.permutation(self.loose).tolist():
            for xy in rng.uniform(REACH[0], REACH[1], (50, 2)):
                if all(np.linalg.norm(xy - other) > distance for other, distance in taken):
                    self.put(name, np.array([*xy, self.position(name)[2] + 0.005]))
                    break
            else:
                xy = self.position(name)[:2].copy()
            taken.append((xy, CLEARANCE))
        self.forward()

    def _vary_appearance(self, rng: np.random.Generator) -> None:
        model = self._model
        model.light_diffuse[:] *= rng.uniform(0.55, 1.15, (model.nlight, 1)) * rng.uniform(0.85, 1.15, (1, 3))
        model.light_pos[:] += rng.uniform(-0.8, 0.8, (model.nlight, 3))
        model.vis.headlight.ambient[:] *= rng.uniform(0.5, 3.0)
        surroundings = _surroundings(model)
        model.mat_rgba[surroundings, :3] *= rng.uniform(0.5, 1.0, (len(surroundings), 3))
        for material in surroundings:
            texture = model.mat_texid[material, RGB]
            if texture >= 0 and rng.random() < 0.5:
                same_kind = np.flatnonzero(model.tex_type == model.tex_type[texture])
                model.mat_texid[material, RGB] = rng.choice(same_kind)


VARIED = ("light_diffuse", "light_pos", "mat_rgba", "mat_texid", "cam_pos", "cam_quat")


def _appearance(model: Any) -> dict[str, np.ndarray]:
    return {name: getattr(model, name).copy() for name in VARIED} | {"ambient": model.vis.headlight.ambient.copy()}


def _set_appearance(model: Any, values: dict[str, np.ndarray]) -> None:
    for name in VARIED:
        getattr(model, name)[:] = values[name]
    model.vis.headlight.ambient[:] = values["ambient"]


def _surroundings(model: Any) -> np.ndarray:
    """Materials of tables, walls and floors."""
    found = set()
    for g in range(model.ngeom):
        body = model.body(model.geom_bodyid[g]).name
        if model.geom_matid[g] >= 0 and (body in ("world", "floor") or "table" in body):
            found.add(int(model.geom_matid[g]))
    return np.array(sorted(found), int)
