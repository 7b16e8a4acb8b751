"""One pass of diffusers' spatio-temporal UNet, written out: only as far as it is read, with cheaper cross-attention.

Every output equals that of the UNet's own forward. Blocks are diffusers' `down_blocks` and `up_blocks`, counted from 0.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from videopolicy.errors import BadInput
from videopolicy.operations import once_and_again

Attention = Literal["auto", "sdpa", "xformers"]
Checkpointing = Literal["none", "selective", "full"]
Compile = Literal["none", "inductor", "aot_eager"]  # torch.compile's backends
FORMS = 32  # that a kind of block may be compiled for, of all blocks of its kind together


@dataclass(frozen=True)
class Pass:
    """What a pass gives: the UNet's output, None if it ended before that, and the up-blocks that were read."""

    output: Float[Tensor, "batch frame channel row col"] | None
    blocks: dict[int, Tensor]


def run(
    unet: Any,
    inputs: Float[Tensor, "batch frame channel row col"],
    noise_level: Float[Tensor, " batch"],
    embedding: Float[Tensor, "batch token width"],
    time_ids: Float[Tensor, "batch 3"],
    read: Collection[int] = (),
    whole: bool = True,
    checkpointing: Checkpointing = "none",
) -> Pass:
    """The UNet's forward, which keeps the outputs of the up-blocks in `read`; unless `whole`, it ends after the last.

    With `checkpointing`, blocks compute their activations again in the backward pass instead of keeping them:
    "selective" those that read or give the finest resolution, which hold the most, "full" all. Sizes must be multiples
    of the UNet's downsampling.
    """
    b, t = inputs.shape[:2]
    again = checkpointed(len(unet.down_blocks), checkpointing) if torch.is_grad_enabled() else frozenset()

    def call(name: str, block: Any, **states: Any) -> Any:
        states |= {"temb": time, "image_only_indicator": no_images}
        if name == "mid" or getattr(block, "has_cross_attention", False):
            states["encoder_hidden_states"] = tokens
        if name not in again:
            return block(**states)
        return checkpoint(block, **states, use_reentrant=False, context_fn=once_and_again)

    time = unet.time_embedding(unet.time_proj(noise_level).to(inputs.dtype))
    ids = rearrange(unet.add_time_proj(time_ids.flatten()), "(b n) c -> b (n c)", b=b).to(time.dtype)
    time = repeat(time + unet.add_embedding(ids), "b c -> (b t) c", t=t)
    tokens = repeat(embedding, "b n c -> (b t) n c", t=t)
    x = unet.conv_in(rearrange(inputs, "b t c h w -> (b t) c h w"))
    no_images = x.new_zeros(b, t)

    skipped = (x,)
    for i, block in enumerate(unet.down_blocks):
        x, states = call(f"down{i}", block, hidden_states=x)
        skipped += states
    x = call("mid", unet.mid_block, hidden_states=x)
    blocks = {}
    for i, block in enumerate(unet.up_blocks):
        n = len(block.resnets)
        skipped, states = skipped[:-n], skipped[-n:]
        x = call(f"up{i}", block, hidden_states=x, res_hidden_states_tuple=states)
        if i in read:
            blocks[i] = x
        if not whole and i == max(read):
            return Pass(None, blocks)
    x = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
    return Pass(rearrange(x, "(b t) c h w -> b t c h w", b=b), blocks)


def checkpointed(n_levels: int, how: Checkpointing) -> frozenset[str]:
    """Names of the blocks whose activations are computed again."""
    if how == "none":
        return frozenset()
    if how == "selective":
        return frozenset({"down0", f"up{n_levels - 2}", f"up{n_levels - 1}"})
    return frozenset({"mid", *(f"{side}{i}" for side in ("down", "up") for i in range(n_levels))})


def compile_blocks(unet: Any, backend: Compile) -> None:
    """Let torch compile each block at its first use, in place: their names, and so checkpoints, stay as they are."""
    if backend != "none":
        torch.compiler.config.recompile_limit = max(FORMS, torch.compiler.config.recompile_limit)
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            block.compile(backend=backend)


def as_compiled() -> AbstractContextManager:
    """Around passes that no block is compiled for: what there is is used where it fits, minutes are not spent."""
    return torch.compiler.set_stance("eager_on_recompile")


class OneToken:
    """Cross-attention to a single token, as SVD's to its image embedding: a softmax over one is 1.

    Every query gets the token's value, whatever it asks. An attention processor of diffusers.
    """

    def __call__(
        self,
        attention: Any,
        hidden_states: Float[Tensor, "batch query channel"],
        encoder_hidden_states: Float[Tensor, "batch token width"],
        attention_mask: None = None,
        temb: None = None,
    ) -> Float[Tensor, "batch 1 channel"]:
        if encoder_hidden_states.shape[1] != 1:
            raise ValueError(f"the context has {encoder_hidden_states.shape[1]} tokens; allowed: 1")
        linear, dropout = attention.to_out
        return dropout(linear(attention.to_v(encoder_hidden_states))) / attention.rescale_output_factor


def shorten_cross_attention(unet: Any) -> None:
    """Let all cross-attention be to one token.

    What then has no use, queries, keys and the queries' norm, is frozen: it never had a gradient. It stays in the
    weights, which diffusers reads as before.
    """
    for name, module in unet.named_modules():
        if name.endswith(".attn2"):
            module.set_processor(OneToken())
            block = unet.get_submodule(name.removesuffix(".attn2"))
            for unused in (module.to_q, module.to_k, block.norm2):
                unused.requires_grad_(False)


def set_attention(unet: Any, kind: Attention) -> None:
    """Choose the kernels of a UNet's attention; `auto` is torch's own, scaled_dot_product_attention.

    Raises `BadInput` where xformers is not installed, or cannot be used here.
    """
    if kind != "xformers":
        return  # diffusers' default
    try:
        unet.enable_xformers_memory_efficient_attention()
    except (ImportError, ValueError, NotImplementedError) as error:  # not there; no GPU; no kernel for this one
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"backbone.attention is xformers, which cannot be used: {reason}; allowed: auto, sdpa"
        ) from error
