"""Recording of pretraining clips in a simulator process: episodes of one task, each seen by several cameras."""

import numpy as np

from eval.behaviours import pick_and_place, reach
from eval.executors import LiberoExecutor
from eval.playground import Playground
from eval.positions import episode_seed, is_evaluation_layout
from eval.scene import LIFTED
from videopolicy.camera import Camera
from videopolicy.types import ActionChunk

SHARES = {"layout": 0.75, "appearance": 0.5, "reach": 0.25}  # of episodes


def record_block(playground: Playground, job: dict) -> dict:
    """Episodes `job["first"]` to the end of a block; the camera self-test's pictures, where episode 0 is among them.

    An episode is a function of the seed, its block and its own number. One that comes to show the evaluated arrangement
    is thrown away and drawn again.
    """
    views: list[dict] = []
    markers = None
    for episode in range(job["first"], job["n_episodes"]):
        for attempt in range(20):
            rng = np.random.default_rng(episode_seed("corpus", job["seed"], job["block"], episode, attempt))
            flags = {k: bool(rng.random() < share) for k, share in SHARES.items()}
            poses = [playground.own_view]
            poses += [playground.random_camera(rng) for _ in range(job["n_views"] - 1)]
            if episode == attempt == 0:
                markers = _test_cameras(playground, poses)
            playground.reset(rng, flags["layout"], flags["appearance"])
            recorded = _record(playground, rng, flags["reach"], 1 / job["fps"], poses)
            if recorded is not None:
                break
        else:
            raise RuntimeError(f"20 episodes of {playground.task} in turn showed the evaluated arrangement")
        common = {"block": job["block"], "episode": episode, "task": playground.task, **recorded["extra"]}
        common |= {k: flags[k] for k in ("layout", "appearance")}
        for view, (frames, camera) in enumerate(recorded["views"]):
            extra = {**common, "view": view, "camera": camera.to_json()}
            views.append({"frames": frames, "state": recorded["state"], "action": recorded["action"], "extra": extra})
    return {"views": views, "markers": markers}


def _test_cameras(playground: Playground, poses: list) -> tuple:
    """Self-test of every camera; the markers and pictures of the first."""
    found = []
    for pose in poses:
        playground.look(*pose)
        found.append(playground.self_test())
    return found[0]


def _record(
    playground: Playground, rng: np.random.Generator, reaching: bool, period: float, poses: list
) -> dict | None:
    """Run a motion; frames of every camera, states and commands, one each period.

    None as soon as objects stand as in the scene that policies are evaluated on.
    """
    start = _positions(playground)
    pick = not reaching and playground.pickable()
    motion = pick_and_place(playground, rng, period) if pick else reach(playground, rng, period)
    executor = LiberoExecutor(playground, "teleport", step_cap=10_000)
    name = motion.name.removeprefix("pick ") if pick else None
    frames: list[list[np.ndarray]] = [[] for _ in poses]
    cameras: list[Camera] = []
    state, action, highest = [], [], 0.0
    for step in range(len(motion.position) + 1):
        if is_evaluation_layout(_positions(playground)):
            return None
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
            highest = max(highest, float(playground.position(name)[2] - start[name][2]))
    end = _positions(playground)
    extra: dict = {"motion": motion.name, "onto": motion.onto, "lifted": highest > LIFTED}
    extra |= {key: {n: p.round(4).tolist() for n, p in at.items()} for key, at in (("objects", start), ("end", end))}
    views = [(np.stack(f), camera) for f, camera in zip(frames, cameras, strict=True)]
    return {"views": views, "state": np.array(state), "action": np.array(action), "extra": extra}


def _positions(playground: Playground) -> dict[str, np.ndarray]:
    return {n: playground.position(n).copy() for n in playground.objects}
