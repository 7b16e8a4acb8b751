"""Our pass of the UNet against diffusers' own: the same outputs and gradients, at less cost."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from videopolicy.backbones import pipeline, unet
from videopolicy.backbones.pipeline import Architecture
from videopolicy.operations import Operations

EVERYWHERE = Architecture((64, 64), 3, 4, (32, 64, 32), (True, True, False), vae_channels=(32, 32))


@pytest.fixture(scope="module")
def theirs() -> Any:
    """With weights large enough that nothing is nearly zero."""
    torch.manual_seed(0)
    network = pipeline.create(EVERYWHERE, seed=0).unet
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return network.eval()


@pytest.fixture(scope="module")
def ours(theirs: Any) -> Any:
    network = copy.deepcopy(theirs)
    unet.shorten_cross_attention(network)
    return network


def inputs(batch: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 3, 16, 16, 16, generator=generator)
    embedding = torch.randn(batch, 1, 64, generator=generator)
    return x, torch.tensor([0.3, -0.7])[:batch], embedding, torch.tensor([[3.0, 127, 0.02], [3.0, 127, 0.5]])[:batch]


def blocks_of(network: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, dict[int, Tensor]]:
    """diffusers' forward, and what its up-blocks gave."""
    seen: dict[int, Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _m, _x, out, i=i: seen.update({i: out}))
        for i, block in enumerate(network.up_blocks)
    ]
    output = network(*given).sample
    for hook in hooks:
        hook.remove()
    return output, seen


@torch.no_grad()
def test_every_output_is_the_unets_own(theirs: Any, ours: Any) -> None:
    """To the last bit: the whole pass, the blocks it reads, and a pass that ends early."""
    expected, blocks = blocks_of(theirs, inputs())
    for network in (theirs, ours):
        found = unet.run(network, *inputs(), read=(0, 2))
        assert torch.equal(found.output, expected)
        assert found.blocks.keys() == {0, 2}
        for last in range(3):
            early = unet.run(network, *inputs(), read=(0, last), whole=False)
            assert early.output is None
            assert all(torch.equal(out, blocks[i]) for i, out in early.blocks.items())
            assert early.blocks.keys() == {0, last}


@torch.no_grad()
def test_a_pass_that_ends_early_costs_less(ours: Any, theirs: Any) -> None:
    cost = {}
    for name, network, more in (
        ("theirs", theirs, {}),
        ("whole", ours, {}),
        ("early", ours, {"read": (1,), "whole": False}),
    ):
        with FlopCounterMode(display=False) as counter:
            unet.run(network, *inputs(), **more)
        cost[name] = counter.get_total_flops()
    assert cost["early"] < 0.8 * cost["whole"] < 0.8 * cost["theirs"]


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_gradients_are_the_unets_own(theirs: Any, ours: Any, checkpointing: unet.Checkpointing) -> None:
    """Of all that has any; what is frozen had none."""
    theirs.zero_grad()
    theirs(*inputs()).sample.square().mean().backward()
    ours.zero_grad()
    found = unet.run(ours, *inputs(), read=(1,), checkpointing=checkpointing)
    found.output.square().mean().backward()
    frozen = []
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if p.requires_grad:
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7, msg=name)
        else:
            frozen.append(name)
            assert q.grad is None or q.grad.abs().max() < 1e-9
    assert frozen
    assert all(".attn2.to_q." in n or ".attn2.to_k." in n or ".norm2." in n for n in frozen)


def test_checkpointing_keeps_fewer_activations(ours: Any) -> None:
    """Bytes held for the backward pass fall from none to selective to full."""
    kept = {}
    for how in ("none", "selective", "full"):
        sizes: dict[int, int] = {}

        def pack(x: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            found = unet.run(ours, *inputs(), checkpointing=how)
        kept[how] = sum(sizes.values())
        del found
    weights = sum(p.numel() * 4 for p in ours.parameters())
    assert kept["full"] - weights < 0.7 * (kept["selective"] - weights)
    assert kept["selective"] < 0.7 * kept["none"]


@pytest.mark.parametrize("training", [True, False])
def test_operations_are_as_many_as_torch_counts(ours: Any, training: bool) -> None:
    """Of forward and backward pass; and of one without gradients, where torch shows layers instead of their parts."""
    counted = []
    for counter in (FlopCounterMode(display=False), Operations()):
        with torch.inference_mode(not training), counter:
            found = unet.run(ours, *inputs())
            if training:
                found.output.square().mean().backward()
        counted.append(counter.total if isinstance(counter, Operations) else counter.get_total_flops())
    assert counted[0] == counted[1] > 10**6


def test_what_is_computed_again_is_not_needed(ours: Any) -> None:
    """A forward pass again for all blocks, less where a block's last results are not asked for again."""
    needed, total = {}, {}
    for how in ("none", "selective", "full"):
        with Operations() as counter:
            found = unet.run(ours, *inputs(), checkpointing=how)
            forward = counter.total
            found.output.square().mean().backward()
        needed[how], total[how] = counter.needed, counter.total
    assert needed["none"] == needed["selective"] == needed["full"] == total["none"] > 2 * forward
    assert total["none"] < total["selective"] < total["full"] <= total["none"] + forward


def test_which_blocks_are_checkpointed() -> None:
    assert unet.checkpointed(4, "none") == frozenset()
    assert unet.checkpointed(4, "selective") == {"down0", "up2", "up3"}
    assert len(unet.checkpointed(4, "full")) == 9


def test_more_than_one_token_is_refused(ours: Any) -> None:
    x, level, embedding, ids = inputs()
    with pytest.raises(ValueError, match="the context has 2 tokens; allowed: 1"):
        unet.run(ours, x, level, embedding.repeat(1, 2, 1), ids)


def test_weights_stay_diffusers(ours: Any, theirs: Any, tmp_path: Path) -> None:
    """Saved after the shortcut, plain diffusers reads every weight back."""
    ours.save_pretrained(tmp_path)
    again = type(theirs).from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), theirs.parameters(), strict=True))


def test_compiled_blocks_are_the_blocks(ours: Any) -> None:
    """The same output and gradients under the same names; one of them, and not lowered to code, which takes minutes."""
    compiled = copy.deepcopy(ours)
    unet.compile_blocks(compiled, "aot_eager")
    blocks = [*compiled.down_blocks, compiled.mid_block, *compiled.up_blocks]
    assert all(block._compiled_call_impl is not None for block in blocks)
    assert compiled.state_dict().keys() == ours.state_dict().keys()
    for block in blocks:
        if block is not compiled.down_blocks[2]:
            block._compiled_call_impl = None
    outputs = []
    for network in (ours, compiled):
        network.zero_grad()
        out = unet.run(network, *inputs(1)).output
        out.square().mean().backward()
        outputs.append((out, [p.grad.clone() for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)
