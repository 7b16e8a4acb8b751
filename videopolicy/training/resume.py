"""Whether a run may go on: under what it was begun with, but for keys that change nothing that is learned."""

import json
from pathlib import Path
from typing import Any

from videopolicy.config import to_dict, with_defaults
from videopolicy.errors import BadInput
from videopolicy.training import checkpoint

FREE_KEYS = ("run", "dry_run", "preview", "leak_clips", "init_from")  # may differ when a run is resumed
FREE_WITHIN = {
    "train": (
        "n_steps",
        "accumulate",
        "tracker",
        "log_every",
        "val_every",
        "save_every",
        "n_threads",
        "num_workers",
        "ema_on_cpu",
    ),
    "backbone": ("checkpointing", "attention", "compile"),
}


def check_same(found: Path, config: Any, state: dict) -> None:
    """Refuse to go on with a run under another configuration or other labels; `BadInput` names the first difference.

    Keys that the run's code did not know yet have their defaults, which change nothing.
    """
    before = {**with_defaults(type(config), checkpoint.read_config(found)), "state": checkpoint.read_state(found)}
    now = {**json.loads(json.dumps(to_dict(config))), "state": json.loads(json.dumps(state))}
    for section, values in now.items():
        pairs = values.items() if isinstance(values, dict) else [(None, values)]
        for key, value in pairs:
            old = before.get(section, {}).get(key) if key is not None else before.get(section)
            free = section in FREE_KEYS or key in FREE_WITHIN.get(section, ())
            if value != old and not free:
                name = section if key is None else f"{section}.{key}"
                raise BadInput(
                    f"{found.parent} was trained with {name} {old}, not {value}; name another run, or remove it"
                )
