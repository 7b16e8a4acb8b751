"""Recording of pretraining clips in a simulator process: episodes of one task, each seen by several cameras."""

import numpy as np

from eval.behaviours import Motion, pick_and_place, reach
from eval.executors import LiberoExecutor
from eval.playground import Playground
from eval.positions import episode_seed, is_evaluation_layout
from videopolicy.camera import Camera
from videopolicy.types import ActionChunk

SHARES = {"reach": 0.25, "layout": 0.75, "appearance": 0.5}  # of episodes
LIFTED = 0.04  # [m]


def record_block(playground: Playground, job: dict) -> dict:
    """Episodes `job["first"]` to the end of a block; the camera self-test's pictures, where episode 0 is among them.

    An episode is a function of the seed, its block and its own number.
    """
    views: list[dict] = []
    markers = None
    for episode in range(job["first"], job["n_episodes"]):
        rng = np.random.default_rng(episode_seed("corpus", job["seed"], job["block"], episode))
        layout, appearance, reaching = (rng.random() < SHARES[k] for k in ("layout", "appearance", "reach"))
        _reset(playground, rng, layout, appearance)
        poses = [playground.default_camera()]
        poses += [playground.random_camera(rng) for _ in range(job["n_views"] - 1)]
        if episode == 0:
            markers = _test_cameras(playground, poses)
            _reset(playground, rng, layout, appearance)
        objects = {n: playground.position(n).round(4).tolist() for n in playground.objects}
        period = 1 / job["fps"]
        pick = playground.pickable() and not reaching
        motion = pick_and_place(playground, rng, period) if pick else reach(playground, rng, period)
        recorded = _record(playground, motion, period, poses)
        for view, (frames, camera) in enumerate(recorded.pop("views")):
            extra = {"block": job["block"], "episode": episode, "view": view, "task": playground.task}
            extra |= {"motion": motion.name, "layout": bool(layout), "appearance": bool(appearance)}
            extra |= {"objects": objects, "lifted": recorded["lifted"], "camera": camera.to_json()}
            views.append({"frames": frames, "state": recorded["state"], "action": recorded["action"], "extra": extra})
    return {"views": views, "markers": markers}


def _reset(playground: Playground, rng: np.random.Generator, layout: bool, appearance: bool) -> None:
    """Reset until the layout is none of those that policies are evaluated on."""
    for _ in range(20):
        playground.reset(rng, layout, appearance)
        if not is_evaluation_layout({n: playground.position(n) for n in playground.objects}):
            return
        layout = True
    raise RuntimeError(f"no layout of {playground.task} in 20 is outside the evaluation grid")


def _test_cameras(playground: Playground, poses: list) -> tuple:
    """Self-test of every camera; the markers and pictures of the first."""
    found = []
    for pose in poses:
        playground.look(*pose)
        found.append(playground.self_test())
    return found[0]


def _record(playground: Playground, motion: Motion, period: float, poses: list) -> dict:
    """Run a motion; frames of every camera, states and commands, one each period."""
    executor = LiberoExecutor(playground, "teleport", step_cap=10_000)
    name = motion.name.removeprefix("pick ") if motion.name.startswith("pick") else None
    rest = playground.position(name)[2] if name else 0.0
    frames: list[list[np.ndarray]] = [[] for _ in poses]
    cameras: list[Camera] = []
    state, action, highest = [], [], 0.0
    for step in range(len(motion.position) + 1):
        index = min(step, len(motion.position) - 1)
        position, gripper = motion.position[index], motion.gripper[index]
        shown = playground.views(poses)
        cameras = [camera for _, camera in shown]
        for kept, (image, _) in zip(frames, shown, strict=True):
            kept.append(image)
        state.append([*playground.ee_position, playground.gripper])
        action.append([*position, gripper])
        executor.execute(ActionChunk(position[None], np.array([gripper]), period), 1)
        if name:
            highest = max(highest, playground.position(name)[2] - rest)
    views = [(np.stack(f), camera) for f, camera in zip(frames, cameras, strict=True)]
    return {"views": views, "state": np.array(state), "action": np.array(action), "lifted": bool(highest > LIFTED)}
