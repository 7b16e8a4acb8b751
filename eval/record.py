"""Recording of a list of demonstrations by the scripted expert, in parallel; the same list resumes where it stopped."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from eval.arm import Arm
from eval.card import write_card
from eval.grid import Spot
from eval.pool import Pool
from eval.positions import episode_seed
from videopolicy.data.overlay import CircleConfig, check_colour, draw_circle, overlaid
from videopolicy.data.recording import Episode, Writer
from videopolicy.errors import BadInput
from videopolicy.progress import Progress

BOWL_ON_PLATE = "pick up the black bowl and place it on the plate"


def record(
    spots: list[Spot],
    pool: Pool,
    output: Path,
    image_size: int,
    fps: int,
    seed: int,
    n_tries: int = 4,
    start_jitter: float = 0.01,
    language: str = BOWL_ON_PLATE,
    circle: CircleConfig | None = None,
    arm: Arm = "Panda",
) -> dict:
    """Run the expert at every spot that has no episode yet, and write the episodes in the order of the spots.

    With `circle` pictures are without the robot, and have one where its end effector is. Where the expert fails it
    tries again: the bowl moved by at most 4 mm, or a task's object grasped elsewhere. `BadInput` at the end where spots
    are left without an episode.
    """
    # Test every camera with the running simulator, and open the dataset with the first.
    views = list(dict.fromkeys(spot.view for spot in spots))
    who = {"arm": arm, "hide_robot": circle is not None}
    first = _job(spots[0], 0, image_size, fps, seed, n_tries, start_jitter)
    look = {"kind": "describe", "image_size": image_size, "task": spots[0].task, "first": first, **who}
    scenes = dict(pool.run([{**look, "view": view} for view in views]))
    cameras = {view: scenes[i]["camera"] for i, view in enumerate(views)}
    errors = np.concatenate([scene["errors"] for scene in scenes.values()])
    print(f"camera self-test passed: markers of {len(views)} camera(s) within {errors.max():.2f} px")
    moving = views != [None]
    if circle is not None:
        for scene in scenes.values():
            check_colour(scene["images"][1][None], circle.colour, circle.apart, "the scene")
    overlay = None if circle is None else {"kind": "circle", "robot": "hidden", **asdict(circle)}
    writer = Writer(output, fps, "agentview", cameras[views[0]], language, moving, robot=arm.lower(), overlay=overlay)
    done = kept(writer, spots)
    writer.write_markers(scenes[0]["markers"], *scenes[0]["images"])
    n_before = writer.n_episodes
    if n_before:
        print(f"{output} already holds {n_before} of {len(spots)} episodes")

    # Record what is missing.
    todo = [i for i in range(len(spots)) if i not in done]
    jobs = [{**_job(spots[i], i, image_size, fps, seed, n_tries, start_jitter), **who} for i in todo]
    n_failed = 0
    progress = Progress("collect", len(spots), len(done))
    for number, result in pool.run_in_order(jobs):
        i = todo[number]
        n_failed += result["attempts"] - result["placed"]
        if result["placed"]:
            made = {k: result[k] for k in ("bowl_xy", "attempts", "placed", "control_steps") if result[k] is not None}
            extra = {"cell": i, **spots[i].extra, **made, **pool.restarts(number)}
            camera, frames, state = cameras[spots[i].view], result["frames"], result["state"]
            if moving:
                extra["camera"] = camera.to_json()
            if circle is not None:
                rng = np.random.default_rng(episode_seed("circle", seed, i))
                drawn = draw_circle(circle, len(frames), image_size, rng)
                check_colour(frames, drawn.colour, circle.apart, f"the pictures with the {spots[i].where}")
                frames = overlaid(frames, camera.project(state[:, :3]), drawn)
                extra["circle"] = drawn.to_json()
            writer.append(Episode(frames, state, result["action"], extra))
        progress.update(len(done) + number + 1, f"{n_failed} attempts failed")
    progress.close()

    # Say what there is.
    extras = writer.extras()
    first = sum(e["attempts"] == 1 for e in extras)
    attempts = sum(e["attempts"] for e in extras)
    print(
        f"kept {len(extras)} episodes, {writer.info['total_frames']} frames; {attempts - len(extras)} attempts failed"
        f" before one was kept; the expert placed {first}/{len(spots)} positions at the first try;"
        f" {sum(e.get('restarts', 0) for e in extras)} simulators died and were replaced, their episodes repeated"
    )
    if extras:
        writer.finish()
        write_card(output, float(errors.max()))
    holes = sorted(set(range(len(spots))) - {e["cell"] for e in extras})
    if holes:
        where = ", ".join(spots[i].where for i in holes)
        raise BadInput(
            f"{output} lacks {len(holes)} of {len(spots)} episodes: the expert failed {n_tries} times with {where}; the"
            " same command with a larger n_tries goes on"
        )
    return {"episodes": len(extras), "new": len(extras) - n_before, "failures": n_failed, "first_try": first}


def kept(writer: Writer, spots: list[Spot]) -> set[int]:
    """Spots that have an episode; `BadInput` where the folder was collected with another configuration."""
    found = set()
    for extra in writer.extras():
        i = extra.get("cell", len(spots))
        if i >= len(spots) or not _is_of(spots[i], extra):
            held = extra.get("bowl_xy") or f"initial state {extra.get('init_state')} of {extra.get('task')}"
            raise BadInput(
                f"{writer.root} holds an episode at {held}, which is not position {i} of {len(spots)}"
                " of this configuration; name another output"
            )
        found.add(i)
    return found


def _is_of(spot: Spot, extra: dict) -> bool:
    """Whether an episode was recorded at a spot."""
    if any(extra.get(k) != v for k, v in spot.extra.items()) or (spot.bowl_xy is None) == ("bowl_xy" in extra):
        return False
    return spot.bowl_xy is None or bool(np.abs(spot.bowl_xy - extra["bowl_xy"]).max() <= 0.005)


def _job(spot: Spot, i: int, image_size: int, fps: int, seed: int, n_tries: int, start_jitter: float) -> dict:
    """The job for spot i: start poses, and bowl positions that move by at most 4 mm from the second attempt on."""
    rng = np.random.default_rng(episode_seed("collect", seed, i))
    jitter = rng.uniform(-0.004, 0.004, (n_tries, 2))
    jitter[0] = 0
    start = rng.uniform(-start_jitter, start_jitter, (n_tries, 3))
    moved = [None] * n_tries if spot.bowl_xy is None else spot.bowl_xy + jitter
    attempts = list(zip(moved, start, strict=True))
    place = {
        "plate_xy": spot.plate_xy,
        "view": spot.view,
        "task": spot.task,
        "init_state": spot.extra.get("init_state"),
    }
    return {"kind": "collect", "image_size": image_size, "attempts": attempts, "fps": fps, **place}
