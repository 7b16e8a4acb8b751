"""How fast a video model acts and trains on a device: the published SVD's sizes, weights random. See `svd.py`.

Wall-clock times, medians after a warm-up, the device waited for; timed is what a policy and a training step run.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import svd_loader
from videopolicy.backbones.pipeline import Weights
from videopolicy.backbones.svd import SVDBackbone
from videopolicy.backbones.svd_config import SVDConfig
from videopolicy.backbones.unet import compile_blocks
from videopolicy.bins import Bins
from videopolicy.camera import Camera
from videopolicy.diffusion import NoiseConfig, like
from videopolicy.heads.heatmap import ParaConfig
from videopolicy.heads.para import ParaHead
from videopolicy.operations import Operations
from videopolicy.policy import FeaturePolicy
from videopolicy.provenance import commit
from videopolicy.training.objectives import Draws, VideoObjective, draw
from videopolicy.training.optimizer import make_optimizer
from videopolicy.training.precision import has_bf16
from videopolicy.training.setup import TrainConfig
from videopolicy.training.throughput import known_peak
from videopolicy.types import Observation

FPS = 7
N_STAGE_ONE, N_STAGE_TWO = 4000, 3000  # steps, as the sources have them


def measure(
    device: torch.device, pretrained: Path | None, size: tuple[int, int], batch: int, repeats: int, compiled: bool
) -> dict[str, Any]:
    """Times [ms], shares and memory [GiB]; a folder of small networks stands in for the published sizes in tests."""
    weights: Weights = "random" if pretrained is None else "pretrained"
    blocks, grid = ((1, 2), 64) if pretrained is None else ((0, 1), 8)
    n_frames = 7 if pretrained is None else 4
    cfg = SVDConfig(pretrained, weights, size, n_frames, feature_blocks=blocks, grid=grid)
    fps = FPS if pretrained is None else 4
    backbone = SVDBackbone(cfg, fps).to(device)
    low = has_bf16(device.type)
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "commit": commit(),
        "size": list(size),
        "precision": "bf16" if low else "fp32",
    }
    found |= acting(backbone, device, repeats, low)
    found |= training(backbone, device, batch, repeats, low)
    if compiled:  # last: what is compiled stays so
        compile_blocks(backbone.unet, "inductor")
        policy, seen = policy_of(backbone, device, low)
        found["policy_step_compiled_ms"] = timed(lambda: policy.act(seen), device, repeats)
    peak = known_peak(device)
    if peak is not None:
        found["train_mfu"] = found["train_tflop_per_sample"] / found["train_ms_per_sample"] / peak * 1e3
    return found


def timed(compute: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median time [ms], after three runs that are not counted."""
    times = []
    for i in range(repeats + 3):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        compute()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if i >= 3:
            times.append(1e3 * (time.perf_counter() - began))
    return float(np.median(times))


def policy_of(backbone: SVDBackbone, device: torch.device, low: bool) -> tuple[FeaturePolicy, Observation]:
    """A policy with a head that has learned nothing, and what it sees from above."""
    cfg, n_steps = backbone.cfg, backbone.n_feature_frames
    shape = (backbone.feature_channels, n_steps, n_steps, backbone.grid, cfg.image_size)
    head = ParaHead(ParaConfig(), *shape, Bins(-0.02, 0.33, 32), 1 / FPS).to(device).eval()
    policy = FeaturePolicy(backbone.eval(), head, cfg.image_size, "bf16" if low else "fp32")
    width, height = cfg.image_size
    down = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1.2], [0, 0, 0, 1]])
    camera = Camera(np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]), down, cfg.image_size)
    seen = Observation(np.zeros((height, width, 3), np.uint8), camera, np.array([0.0, 0.0, 0.1]), 1.0, 0.0)
    return policy, seen


def acting(backbone: SVDBackbone, device: torch.device, repeats: int, low: bool) -> dict[str, float]:
    """A policy's step from a picture to waypoints, with VAE, image encoder, head and lifting; and its parts."""
    policy, seen = policy_of(backbone, device, low)
    cfg, head = backbone.cfg, policy.head
    width, height = cfg.image_size
    found = {"policy_step_ms": timed(lambda: policy.act(seen), device, repeats)}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=low):
        first = torch.zeros(1, 3, height, width, device=device)
        nothing = torch.zeros(1, device=device)
        condition = backbone.condition(first, nothing, torch.zeros_like(first))
        sigma = torch.full((1,), cfg.feature_sigma, device=device)
        noise = backbone.feature_noise[None]
        x = like(sigma, noise) * noise
        found["whole_pass_ms"] = timed(lambda: backbone.denoise(x, sigma, condition), device, repeats)
        found["read_ms"] = timed(lambda: backbone.read(x, sigma, condition), device, repeats)
        start = torch.full((1, 2), 20.0, device=device)
        features = backbone.features(backbone.read(x, sigma, condition), start)
    with torch.inference_mode():
        found["head_ms"] = timed(lambda: head.decode(head.forward(features), [seen.camera]), device, repeats)
    found["head_share"] = found["head_ms"] / found["policy_step_ms"]
    found["read_share"] = found["read_ms"] / found["whole_pass_ms"]
    return found


def stage_one(backbone: SVDBackbone, device: torch.device, low: bool) -> Callable[[dict[str, Tensor], Draws], Tensor]:
    """A step of stage one, optimizer and all; gives its loss."""
    objective = VideoObjective(backbone)
    backbone.start_embedding.requires_grad_(False)
    optimizer = make_optimizer({"unet": (backbone.unet_parameters(), 1e-6)}, TrainConfig(mixed_precision="fp32"))

    def step(given: dict[str, Tensor], draws: Draws) -> Tensor:
        objective.train()
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            loss = objective(given, draws)["total"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def clips_of(backbone: SVDBackbone, batch: int, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Black clips, and the same as they come from the cache."""
    width, height = backbone.cfg.image_size
    frames = torch.zeros(batch, backbone.cfg.n_frames, height, width, 3, dtype=torch.uint8, device=device)
    plain = {"frames": frames, "start_pixel": torch.zeros(batch, 2, device=device)}
    latents = torch.randn(batch, *backbone.feature_noise.shape, device=device)
    embedding = torch.randn(batch, backbone.cfg.n_frames, backbone.image_encoder.config.projection_dim, device=device)
    return plain, {**plain, "posterior": torch.cat([latents, torch.zeros_like(latents)], 2), "embeddings": embedding}


def training(backbone: SVDBackbone, device: torch.device, batch: int, repeats: int, low: bool) -> dict[str, float]:
    """Steps of stage one, what of their time is waiting for clips, and how long 4K + 3K of eight clips would take."""
    step = stage_one(backbone, device, low)
    found = cached_and_not(backbone, device, batch, repeats, step)
    found["wait_share"] = svd_loader.wait_share(backbone, device, batch, repeats, step)
    found["schedule_hours"] = (N_STAGE_ONE + N_STAGE_TWO) * 8 * found["train_ms_per_sample"] / 3.6e6
    backbone.cfg, own = replace(backbone.cfg, checkpointing="full"), backbone.cfg
    found |= checkpointed(backbone, device, 2 * batch, repeats, step)
    backbone.cfg = own
    return found


def cached_and_not(
    backbone: SVDBackbone, device: torch.device, batch: int, repeats: int, step: Callable[..., Tensor]
) -> dict[str, float]:
    """Of clips from the cache, and of clips that are encoded in every step; no checkpointing."""
    plain, cached = clips_of(backbone, batch, device)
    draws = draw(NoiseConfig(), range(batch), backbone, 0, 0).to(device)
    forget_peak(device)
    found = {"train_batch": float(batch)}
    found["train_ms_per_sample"] = timed(lambda: step(cached, draws), device, repeats) / batch
    found |= peak_memory("train_peak_gib", device)
    found["uncached_ms_per_sample"] = timed(lambda: step(plain, draws), device, repeats) / batch
    found["cached_speedup"] = found["uncached_ms_per_sample"] / found["train_ms_per_sample"]
    with Operations() as counter:
        step(cached, draws)
    found["train_tflop_per_sample"] = counter.needed / batch / 1e12
    return found


def checkpointed(
    backbone: SVDBackbone, device: torch.device, batch: int, repeats: int, step: Callable[..., Tensor]
) -> dict[str, float]:
    """Of clips from the cache, all blocks computed again."""
    _, cached = clips_of(backbone, batch, device)
    draws = draw(NoiseConfig(), range(batch), backbone, 0, 0).to(device)
    forget_peak(device)
    found = {"checkpointed_ms_per_sample": timed(lambda: step(cached, draws), device, repeats) / batch}
    return found | peak_memory("checkpointed_peak_gib", device)


def forget_peak(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(name: str, device: torch.device) -> dict[str, float]:
    """The most that tensors held on a GPU since `forget_peak`; nothing of a CPU."""
    return {name: torch.cuda.max_memory_allocated(device) / 2**30} if device.type == "cuda" else {}
