"""What of accelerate's configuration these stages take: how many processes there are and where, and a stage of ZeRO.

Anything else that it could say would train something other than what the run's own configuration says.
"""

import os

from videopolicy.errors import BadInput

PLAIN = ("", "no", "none", "false")
# What its launcher sets, the key in its file, values that change nothing, and what says it here.
UNUSED = (
    ("ACCELERATE_USE_FSDP", "use_fsdp", PLAIN, "no; ZeRO shares weights (configs/accelerate/zero3.yaml)"),
    ("ACCELERATE_USE_MEGATRON_LM", "use_megatron_lm", PLAIN, "no"),
    ("ACCELERATE_USE_PARALLELISM_CONFIG", "use_parallelism_config", PLAIN, "no"),
    ("ACCELERATE_DYNAMO_BACKEND", "dynamo_backend", PLAIN, "no; backbone.compile says it"),
    ("ACCELERATE_MIXED_PRECISION", "mixed_precision", (*PLAIN, "bf16"), "no, bf16; train.mixed_precision says which"),
    ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "gradient_accumulation_steps", ("", "1"), "1; train.accumulate says it"),
)


def check_launch() -> None:
    """`BadInput` for a setting of the launcher's that is not taken, rather than one that is silently left out."""
    for variable, key, plain, allowed in UNUSED:
        value = os.environ.get(variable, "")
        if value.lower() not in plain:
            raise BadInput(f"accelerate's {key} is {value}; allowed: {allowed}")


def check_world(n_processes: int) -> None:
    """`BadInput` where processes that were started together do not know of each other: each would train alone."""
    started = os.environ.get("WORLD_SIZE", "1")
    if started != str(n_processes):
        raise BadInput(
            f"{started} processes were started, and this one knows of {n_processes}: there is no GPU for each; allowed"
            f" on a CPU: ACCELERATE_USE_CPU=true python -m torch.distributed.run --nproc_per_node {started} -- SCRIPT"
        )
