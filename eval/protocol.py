"""How policies are rolled out: what is configured, checked, and what identifies an evaluation."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from eval.executors import ExecutorKind
from eval.positions import HALVES, Shift
from eval.suites import SPLITS, Split
from videopolicy.backbones.unet import Compile
from videopolicy.errors import BadInput, choices
from videopolicy.heads.act import ActHead
from videopolicy.heads.head import ActionHead


@dataclass(frozen=True)
class Config:
    """Which policies to roll out, where and how often."""

    output: Path = Path("runs/rollout")
    policies: dict[str, str] = field(default_factory=dict)  # name in the report -> stage-two run
    oracle: bool = True  # also execute ground-truth waypoints through the pixel-aligned head's encoding
    # Per policy and split; null: all that the axis has, 40 of seen and unseen; 0: none, only the oracle's.
    n_episodes: int | None = None
    n_oracle: int = 40  # the first of them, by the oracle
    splits: tuple[Split, ...] = HALVES  # the demo's halves, axes of the suite, or validation for tuning
    # One of LIBERO's pick-and-place tasks instead, by its number from 0; from states that no demonstration began in.
    suite: str | None = None
    task: int | None = None
    shift: Shift = "both"  # what moves with the position: bowl and plate, or the bowl alone
    executor: ExecutorKind = "teleport"
    n_execute: int = 4  # waypoints of each chunk that are executed
    n_execute_of: dict[str, int] = field(default_factory=dict)  # of policies that re-plan more or less often than that
    # Policies that decode along the chunk (Viterbi) with another `head.para.stiffness` than they were trained with.
    stiffness_of: dict[str, float] = field(default_factory=dict)
    step_cap: int = 600  # control steps of an episode
    # Of an episode, of n_execute waypoints each, to end hopeless ones early; null: the step cap alone ends them.
    max_chunks: int | None = None
    # Whose overlapping chunks are averaged: of the head whose paper does it (Zhao et al. 2023), everybody's, nobody's.
    ensemble: Literal["act", "all", "none"] = "act"
    ensemble_m: float = 0.01  # the i-th oldest of them has weight exp(-m i)
    n_workers: int = 2
    n_threads: int = 1  # of the policy's process
    compile: Compile = "none"  # a video model's blocks at their first use, for faster steps on a GPU
    seed: int = 1000


def check(cfg: Config) -> None:
    """`BadInput` for what can be told before anything is opened."""
    if not cfg.policies:
        raise BadInput("policies is empty; name at least one as {name: run folder}")
    for name in cfg.policies:
        if name == "oracle" or not re.fullmatch(r"[\w+.-]+", name):
            raise BadInput(f"policies has the name {name!r}; allowed: letters, digits, + - . _, and not 'oracle'")
    if not cfg.splits:
        raise BadInput(f"splits is empty; allowed: one or more of {', '.join(SPLITS)}")
    for split in cfg.splits:
        if split not in SPLITS:
            raise choices("splits", split, SPLITS)
    if cfg.suite is None and cfg.task is not None:
        raise BadInput(f"task is {cfg.task}, but suite is null; allowed: a suite of LIBERO with it, as libero_spatial")
    for key, default in (("splits", Config.splits), ("shift", Config.shift)):
        if cfg.suite is not None and getattr(cfg, key) != default:
            raise BadInput(f"{key} is {getattr(cfg, key)!r}, but suite is {cfg.suite!r}; allowed: one of the two")
    if cfg.n_episodes is not None and cfg.n_episodes < (0 if cfg.oracle else 1):
        raise BadInput(f"n_episodes is {cfg.n_episodes}; allowed: at least 1, null, or with the oracle 0")
    for key in ("n_execute_of", "stiffness_of"):
        for name in getattr(cfg, key):
            if name not in cfg.policies:
                raise choices(key, name, cfg.policies)
    for name, value in cfg.n_execute_of.items():
        if value < 1:
            raise BadInput(f"n_execute_of has {value} for {name}; allowed: at least 1")
    if not 0 <= cfg.ensemble_m < float("inf"):
        raise BadInput(f"ensemble_m is {cfg.ensemble_m}; allowed: at least 0")
    for key in ("n_oracle", "n_execute", "n_workers", "n_threads", "max_chunks", "step_cap"):
        value = getattr(cfg, key)
        if value is not None and value < 1:
            raise BadInput(f"{key} is {value}; allowed: at least 1{', or null' if key == 'max_chunks' else ''}")


def ensemble_of(cfg: Config, head: ActionHead) -> float | None:
    """m of a policy's temporal ensembling; None where its chunks are executed as they are."""
    averages = {"act": isinstance(head, ActHead), "all": True, "none": False}[cfg.ensemble]
    return cfg.ensemble_m if averages else None


def digest(
    cfg: Config,
    weights: str,
    n_execute: int,
    precision: str = "fp32",
    ensemble: float | None = None,
    stiffness: float = 0.0,
) -> str:
    """What identifies an evaluated policy: its weights, and how it is decoded and rolled out."""
    protocol: list[object] = [cfg.executor, n_execute, cfg.step_cap, cfg.max_chunks, cfg.shift, cfg.seed]
    protocol += [precision] if ensemble is None else [precision, "ensemble", ensemble]
    protocol += ["stiffness", stiffness] if stiffness else []
    protocol += [] if cfg.suite is None else [cfg.suite, cfg.task]
    return hashlib.sha256(json.dumps([weights, protocol]).encode()).hexdigest()[:16]
