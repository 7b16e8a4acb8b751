"""The pretraining corpus: clips of LIBERO's other tasks, without the scene that policies are evaluated in."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.pool import Pool
from eval.positions import EVALUATED, is_evaluated_goal, is_evaluation_layout
from videopolicy.camera import Camera
from videopolicy.data.format import read_extras, read_info
from videopolicy.data.recording import Episode, Writer
from videopolicy.errors import BadInput, at_least_one
from videopolicy.progress import Progress

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_90")
TASK = "move things on a table"


@dataclass(frozen=True)
class CorpusConfig:
    """How much, and of what. A block is a task's scene with several episodes, each seen by several cameras."""

    suites: tuple[str, ...] = SUITES  # tasks are drawn from these in turn
    n_blocks: int = 64
    n_episodes: int = 12  # of a block
    n_views: int = 2  # LIBERO's camera, then random ones

    def check(self) -> None:
        at_least_one(self, "n_blocks", "n_episodes", "n_views", of="corpus.")
        if not self.suites:
            raise BadInput(f"corpus.suites is empty; allowed: {', '.join(SUITES)}")
        for suite in self.suites:
            if suite not in SUITES:
                raise BadInput(f"corpus.suites has {suite!r}; allowed: {', '.join(SUITES)}")


def collect_corpus(cfg: CorpusConfig, pool: Pool, output: Path, image_size: int, fps: int, seed: int) -> dict:
    """Record every block that is not there yet; clips are written in the order of blocks, episodes and views."""
    (_, names), *_ = pool.run([{"kind": "tasks", "suites": cfg.suites}])
    tasks = block_tasks(names, cfg.n_blocks, seed)
    before = read_extras(output)
    if before:  # what info.json does not count does not exist
        before = before[: read_info(output)["total_episodes"]]
    _check_kept(output, before, tasks, cfg)
    sizes = {tuple(e["camera"]["size"]) for e in before} - {(image_size, image_size)}
    if sizes:
        raise BadInput(f"{output} holds clips of {sorted(sizes)[0]} pixels, not {image_size}; name another output")
    per_block = cfg.n_episodes * cfg.n_views
    n_done = len(before)
    if n_done:
        print(f"{output} already holds {n_done} of {len(tasks) * per_block} clips")
    common = {"kind": "clips", "image_size": image_size, "fps": fps, "seed": seed, "n_views": cfg.n_views}
    common |= {"n_episodes": cfg.n_episodes}
    jobs = []
    for block in range(n_done // per_block, len(tasks)):
        first = max(0, n_done - block * per_block) // cfg.n_views
        jobs.append({**common, "task": tasks[block], "block": block, "first": first})
    writer = None
    if before:
        writer = Writer(output, fps, "varied", Camera.from_json(before[0]["camera"]), TASK, moving=True)
    progress = Progress("corpus", len(tasks), len(tasks) - len(jobs))
    for number, result in pool.run_in_order(jobs):
        for view in result["views"]:
            extra = view["extra"]
            if writer is None:
                writer = Writer(output, fps, "varied", Camera.from_json(extra["camera"]), TASK, moving=True)
                if not before:
                    writer.write_markers(*result["markers"])
            if (extra["block"], extra["episode"], extra["view"]) in {_key(e) for e in before[-cfg.n_views :]}:
                continue  # a block that was cut short within an episode
            writer.append(Episode(view["frames"], view["state"], view["action"], extra))
        progress.update(len(tasks) - len(jobs) + number + 1, str(jobs[number]["task"]))
    progress.close()
    if writer is not None:
        writer.finish()
    extras = read_extras(output)
    picks = [e for e in extras if e["motion"] != "reach" and e["view"] == 0]
    print(
        f"{len(extras)} clips of {len({e['task'] for e in extras})} tasks; {sum(e['lifted'] for e in picks)} of"
        f" {len(picks)} picks lifted their object"
    )
    return {"episodes": len(extras), "new": len(extras) - n_done}


def block_tasks(names: dict[str, list[str]], n_blocks: int, seed: int) -> list[str]:
    """Each block's task: suites in turn, their tasks in a seeded order; a shorter list is the start of a longer one."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation([t for t in tasks if t != EVALUATED]).tolist() for tasks in names.values()]
    return [orders[i % len(orders)][i // len(orders) % len(orders[i % len(orders)])] for i in range(n_blocks)]


def leaks(extras: Iterable[dict]) -> list[dict]:
    """Clips that show what policies are evaluated on: the task, its arrangement on the grid, or its goal."""
    found = []
    for e in extras:
        moments = (e["objects"], e.get("end", {}))  # the first corpus recorded where objects began alone
        arranged = any(is_evaluation_layout({n: np.array(p) for n, p in m.items()}) for m in moments)
        if e["task"] == EVALUATED or arranged or is_evaluated_goal(e["motion"], e.get("onto") or ""):
            found.append(e)
    return found


def _key(extra: dict) -> tuple:
    return tuple(extra.get(k) for k in ("block", "episode", "view"))


def _check_kept(output: Path, extras: list[dict], tasks: list[str], cfg: CorpusConfig) -> None:
    """`BadInput` where a folder was collected with other settings, so that it cannot be continued."""
    for i, extra in enumerate(extras):
        block, rest = divmod(i, cfg.n_episodes * cfg.n_views)
        expected = (block, *divmod(rest, cfg.n_views))
        if _key(extra) != expected or block >= len(tasks) or extra["task"] != tasks[block]:
            raise BadInput(
                f"{output} holds clip {i} of {extra.get('task')} (block, episode, view {_key(extra)}), which this"
                " configuration would not record there; name another output"
            )
