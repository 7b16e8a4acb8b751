"""Whether a run may go on: a table of what differs from how it was begun, and which of it forbids to go on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videopolicy.config import to_dict, with_defaults
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

# Keys, and groups of them, that change nothing that is learned.
FREE = (
    *("run", "dry_run", "preview", "leak_clips", "init_from"),
    *(f"train.{key}" for key in ("n_steps", "accumulate", "tracker", "log_every", "val_every", "save_every")),
    *("train.n_threads", "train.num_workers", "train.ema_on_cpu"),
    *("backbone.checkpointing", "backbone.attention", "backbone.compile"),
)
# What a checkpoint's weights, moments and running means are of. Rates, noise, seeds and more data are not.
FATAL = (
    *("architecture", "backbone", "head", "distill", "loss_balance", "fixed_noise", "state"),
    *("train.ema", "train.optimizer", "data.min_change"),
)
MAY_DIFFER = ("state.dataset", "state.seen")
# Of the labels, what older code did not take; no head of it depends on them.
NEW = ("position_low", "position_high")


def check_same(found: Path, config: Any, state: dict) -> str:
    """Differences from how a checkpoint was trained, as a table; nothing where there is none to tell.

    `BadInput` with the same table where one of them changes the model, its bins, its steps or its camera's size. Keys
    that the run's code did not know yet have their defaults, which change nothing.
    """
    before = {**with_defaults(type(config), checkpoint.read_config(found)), "state": checkpoint.read_state(found)}
    now = {**json.loads(json.dumps(to_dict(config))), "state": json.loads(json.dumps(state))}
    old, new = dict(leaves(before)), dict(leaves(now))
    rows, fatal = [], False
    scheduled = new.get("train.schedule", "constant") != "constant"  # rates then depend on how many steps there are
    for name, value in new.items():
        if name in {f"state.labels.{key}" for key in NEW} - old.keys():
            continue
        if old.get(name) == value or (within(name, FREE) and not (scheduled and name == "train.n_steps")):
            continue
        forbids = within(name, FATAL) and not within(name, MAY_DIFFER)
        fatal |= forbids
        verdict = "cannot change" if forbids else "goes on, but not as it would have"
        rows.append((name, _shown(old.get(name)), _shown(value), verdict))
    if not rows:
        return ""
    rows.insert(0, ("key", "trained with", "now", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows]
    table = f"{found.parent} was begun with other settings:\n" + "\n".join(f"  {line}" for line in lines)
    if fatal:
        raise BadInput(f"{table}\nname another run, or remove it")
    return table


def leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """A configuration's keys, as the command line has them, and their values."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def within(name: str, groups: tuple[str, ...]) -> bool:
    """Whether a key is one of these, or in a group that is."""
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
