"""Who is rolled out: trained policies, each decoded and executed as asked, and the oracle."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from eval.lineage import check_lineage
from eval.protocol import Config, digest, ensemble_of
from videopolicy import exported
from videopolicy.camera import Camera
from videopolicy.data.splits import Select
from videopolicy.errors import BadInput
from videopolicy.heads.head import ActionHead, Targets
from videopolicy.heads.para import ParaHead
from videopolicy.policy import FeaturePolicy, load
from videopolicy.training import checkpoint
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class Contestant:
    """One policy of an evaluation; the oracle takes its waypoints from the expert and only its head from a policy."""

    name: str
    policy: FeaturePolicy
    digest: str  # of weights and protocol: episodes of different ones are never mixed
    oracle: bool = False
    ensemble: float | None = None  # m; None: each chunk by itself
    n_execute: int = 4  # waypoints of each chunk that are executed

    def answer(self, requests: list[tuple[str, Any]]) -> list[ActionChunk]:
        """Chunks for the simulators that are waiting, in one forward."""
        if self.oracle and isinstance(self.policy.head, ParaHead):
            return [through_head(self.policy.head, seen.camera, truth) for _, (seen, truth) in requests]
        return self.policy.act_batch([observation for _, observation in requests])


def open_contestants(cfg: Config, device: str) -> tuple[list[Contestant], Path, Select]:
    """Those that an evaluation names, and the dataset and the part of it that all of them were trained on."""
    found, data_root = [], Path()
    select: Select = "all"
    for name, run in cfg.policies.items():
        policy, config = load(Path(run), device, cfg.compile)
        n_execute, m = cfg.n_execute_of.get(name, cfg.n_execute), ensemble_of(cfg, policy.head)
        if name in cfg.stiffness_of:
            decode_along(name, policy.head, cfg.stiffness_of[name])
        whole = exported.is_one(Path(run))
        weights = exported.weights_digest(Path(run)) if whole else checkpoint.weights_digest(checkpoint.find(Path(run)))
        stiffness = policy.head.cfg.stiffness if isinstance(policy.head, ParaHead) else 0.0
        identity = digest(cfg, weights, n_execute, policy.precision, m, stiffness)
        found.append(Contestant(name, policy, identity, ensemble=m, n_execute=n_execute))
        if data_root != Path() and (data_root, select) != (Path(config["data"]["root"]), config["data"]["select"]):
            raise BadInput(
                f"{name} was trained on {config['data']['root']} ({config['data']['select']}), the others on"
                f" {data_root} ({select}); compare like with like"
            )
        data_root, select = Path(config["data"]["root"]), config["data"]["select"]
        check_lineage(name, Path(run), cfg.splits if cfg.suite is None else ())
        if n_execute > policy.head.n_steps:
            raise BadInput(
                f"n_execute is {n_execute}; allowed: at most the {policy.head.n_steps} steps of {name}'s chunks"
            )
    if cfg.oracle:
        para = next((c.policy for c in found if isinstance(c.policy.head, ParaHead)), None)
        if para is None or not isinstance(para.head, ParaHead):
            raise BadInput(
                f"oracle is true, but none of policies {', '.join(cfg.policies)} has head.kind para; allowed: one that"
                " has, or oracle false"
            )
        identity = digest(cfg, scales(para.head), cfg.n_execute)
        found.append(Contestant("oracle", para, identity, oracle=True, n_execute=cfg.n_execute))
    return found, data_root, select


def decode_along(name: str, head: ActionHead, stiffness: float) -> None:
    """Have a head decode as if it had been trained with that `head.para.stiffness`; `BadInput` without heatmaps."""
    if not isinstance(head, ParaHead):
        raise BadInput(f"stiffness_of names {name!r}, whose head has no heatmaps; allowed: policies of head.kind para")
    head.cfg = replace(head.cfg, stiffness=stiffness)


def through_head(head: ParaHead, camera: Camera, truth: ActionChunk) -> ActionChunk:
    """True waypoints encoded as the head's targets, decoded and lifted again: what no prediction can beat."""
    position = torch.from_numpy(truth.position).float()[None]
    pixel = torch.from_numpy(camera.resized(head.image_size).project(truth.position)).float()[None]
    gripper = torch.from_numpy(truth.gripper).float()[None]
    valid = torch.ones_like(gripper, dtype=torch.bool)
    angles = torch.zeros_like(position) if truth.rotation is None else torch.from_numpy(truth.rotation).float()[None]
    targets = Targets(pixel, position[..., 2], gripper, position, valid, angles)
    (chunk,) = head.decode(head.encode(targets), [camera])
    return chunk if truth.rotation is not None else replace(chunk, rotation=None)


def scales(head: ParaHead) -> str:
    """What an oracle's waypoints go through: a head without its weights."""
    bins = head.height_bins
    return json.dumps(
        ["oracle", asdict(head.cfg), head.n_steps, head.grid, head.image_size, bins.low, bins.high, head.period]
    )
