"""Which of a video UNet's weights are trained: all, those over time, low-rank updates of its attention, or none."""

from typing import Any, Literal

import torch
from torch import Tensor

Tune = Literal["full", "temporal", "lora", "frozen"]
TEMPORAL = ("temporal", "time_mixer", "time_pos_embed")  # in names of what mixes or tells frames
# Cross-attention is to one token: its queries and keys have no use.
ATTENTION = r".*(attn1\.(to_q|to_k|to_v|to_out\.0)|attn2\.(to_v|to_out\.0))"
BASE, UPDATES = ".base_layer.", (".lora_A.default.", ".lora_B.default.")


def choose(unet: Any, tune: Tune, rank: int) -> None:
    """Freeze what is not trained; "lora" adds updates of `rank` that start at zero. Frozen weights stay frozen.

    Hu et al. 2021, with alpha equal to the rank, so that the update is B A itself.
    """
    if tune == "frozen":
        unet.requires_grad_(False)
    elif tune == "temporal":
        for name, p in unet.named_parameters():
            p.requires_grad_(p.requires_grad and any(word in name for word in TEMPORAL))
    elif tune == "lora":
        from peft import LoraConfig, inject_adapter_in_model  # seconds, which only those wait for who ask for it

        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=ATTENTION), unet)


@torch.no_grad()
def merged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A UNet's weights under diffusers' own names, low-rank updates added to what they update."""
    down, up = UPDATES
    found = {}
    for name, value in weights.items():
        if down in name or up in name:
            continue
        a = name.replace(BASE, down)
        if a != name and a in weights:
            update = weights[name.replace(BASE, up)].float() @ weights[a].float()
            value = (value.float() + update).to(value.dtype)
        found[name.replace(BASE, ".")] = value
    return found


def fitted(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Any UNet's weights under the names of one whose state is `own`, whose updates stay as they are."""
    theirs = merged(weights)
    names = {name.replace(BASE, "."): name for name in own if not any(part in name for part in UPDATES)}
    updates = {name: value for name, value in own.items() if any(part in name for part in UPDATES)}
    return {names.get(name, name): value for name, value in theirs.items()} | updates
