"""What a pass of the published Stable Video Diffusion costs, and what is saved without changing any output.

python -m bench.svd --device meta
python -m bench.svd --device cuda

On `meta` counts, on tensors without storage, at the published size: shapes, and operations with a multiplication and an
addition as two. On `cuda` times and memory (`svd_speed.py`), the file of `--json` written anew after every part. No
weights are needed.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import svd_speed
from bench.figures import reserve
from videopolicy.backbones import pipeline, unet
from videopolicy.config import guarded
from videopolicy.data.files import write_json
from videopolicy.operations import Operations

SIZES = ["576x320", "512x512", "448x448", "256x256"]  # width x height [pixels]
N_FRAMES, VAE_FACTOR, TERA = 7, 8, 1e12
LAST_READ = 2  # up-block after which a policy that reads 1 and 2, as the sources have it, can stop


def inputs(size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents and their condition, a noise level, an image embedding, time ids."""
    width, height = size
    latents = torch.zeros(1, N_FRAMES, 8, height // VAE_FACTOR, width // VAE_FACTOR)
    return latents, torch.zeros(1), torch.zeros(1, 1, 1024), torch.zeros(1, 3)


def count(compute: Any) -> float:
    """Operations of a computation [tera]."""
    with Operations() as counter:
        compute()
    return counter.total / TERA


def shapes(network: Any, given: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, list[int]]:
    """Channels, rows and columns that each block of diffusers' own forward gives."""
    found: dict[str, list[int]] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            found[name] = list((output[0] if isinstance(output, tuple) else output).shape[1:])

        return hook

    blocks = {"conv_in": network.conv_in, "mid_block": network.mid_block}
    blocks |= {f"{side}.{i}": b for side in ("down_blocks", "up_blocks") for i, b in enumerate(getattr(network, side))}
    hooks = [block.register_forward_hook(keep(name)) for name, block in blocks.items()]
    network(*given)
    for hook in hooks:
        hook.remove()
    return found


def measured(size: tuple[int, int]) -> dict:
    """Counts at one picture size; shares are of diffusers' own forward."""
    network, vae, encoder = pipeline.published()
    given, (width, height) = inputs(size), size
    with torch.no_grad():
        forward = count(lambda: network(*given))
        early = {i: count(lambda i=i: unet.run(network, *given, read=(i,), whole=False)) for i in range(3)}
        found = {"size": list(size), "blocks": shapes(network, given)}
        encode = count(lambda: vae.encode(torch.zeros(1, 3, height, width)))
        embed = count(lambda: encoder(torch.zeros(1, 3, pipeline.CLIP_SIZE, pipeline.CLIP_SIZE)))
    train = count(lambda: network(*given).sample.mean().backward())
    unet.shorten_cross_attention(network)
    with torch.no_grad():
        short = count(lambda: unet.run(network, *given))
        policy = count(lambda: unet.run(network, *given, read=(LAST_READ,), whole=False))
    uncached = train + (N_FRAMES + 1) * encode + embed
    return found | {
        "parameters_m": sum(p.numel() for p in network.parameters()) / 1e6,
        "forward_tflop": forward,
        "forward_backward_tflop": train,
        "truncated_share": early[LAST_READ] / forward,
        "truncated_shares": [early[i] / forward for i in early],
        "one_token_saving": 1 - short / forward,
        "encode_frame_tflop": encode,
        "embed_tflop": embed,
        "policy_step_tflop": policy + encode + embed,
        "cached_sample_saving": uncached / (train + encode),  # the live, noisy encoding of the first frame stays
    }


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["meta", "cuda", "cpu"], default="meta", help="meta: counts alone")
    parser.add_argument("--batch", type=int, default=8, help="samples of a training step, on a device")
    parser.add_argument("--repeats", type=int, default=10, help="of each time, on a device")
    parser.add_argument(
        "--compiled", action=argparse.BooleanOptionalAction, help="a policy's step compiled, too; the default on a GPU"
    )
    parser.add_argument("--pretrained", type=Path, help="a folder instead of the published sizes, on a device")
    parser.add_argument(
        "--sizes", nargs="+", default=SIZES, metavar="WxH", help="picture sizes, the first one's at top"
    )
    parser.add_argument("--json", type=Path, help="also write the counts here")
    args = parser.parse_args(arguments)
    reserve(args.json)
    sizes = []
    for text in args.sizes:
        found = re.fullmatch(r"(\d+)x(\d+)", text)
        if found is None or any(not int(n) or int(n) % 64 for n in found.groups()):
            parser.error(f"--sizes {text}: allowed: width x height in multiples of 64, as 576x320")
        sizes.append((int(found[1]), int(found[2])))
    if args.batch < 1 or args.repeats < 1:
        parser.error(f"--batch is {args.batch}, --repeats {args.repeats}; allowed: at least 1")
    if args.device != "meta":
        if args.device == "cuda" and not torch.cuda.is_available():
            parser.error("--device cuda: there is no GPU here; allowed: meta, cpu")
        compiled = args.device == "cuda" if args.compiled is None else args.compiled

        def keep(found: dict[str, Any]) -> None:
            if args.json:
                write_json(args.json, found)

        device = torch.device(args.device)
        speed = svd_speed.measure(device, args.pretrained, sizes[0], args.batch, args.repeats, compiled, keep)
        print(svd_speed.table(speed, goals=args.pretrained is None))
        return speed
    with torch.device(args.device):
        rows = [measured(size) for size in sizes]
    head = "size      forward  fwd+bwd  after up_blocks 0, 1, 2  one token  policy step  cached stage one"
    print(f"{head}\n{'':<9} {'[TFLOP]':>7}  {'[TFLOP]':>7}  {'[% of forward]':<23}  {'[%]':<9}  [TFLOP]")
    for r in rows:
        width, height = r["size"]
        shares = "  ".join(f"{100 * s:5.1f}" for s in r["truncated_shares"])
        print(
            f"{width:>3} x {height:<3} {r['forward_tflop']:>7.3f}  {r['forward_backward_tflop']:>7.2f}  {shares:<23}  "
            f"{-100 * r['one_token_saving']:<+9.1f}  {r['policy_step_tflop']:<11.3f}  {r['cached_sample_saving']:.2f}x"
        )
    summary = {**rows[0], "sizes": rows}
    if args.json:
        write_json(args.json, summary)
    return summary


if __name__ == "__main__":
    guarded(main)
