"""Diffusion Policy (Chi et al. 2023), convolutional, with its paper's defaults, on any backbone's features."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
from videopolicy.errors import BadInput, at_least_one
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape
from videopolicy.heads.embedding import Embedding
from videopolicy.heads.head import Targets
from videopolicy.heads.spatial_softmax import expected_points
from videopolicy.heads.temporal_unet import TemporalUnet
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class DiffusionConfig:
    """The defaults of the paper's convolutional network, with which nothing but `n_draws` and `clip` is ours.

    The paper's own (its table of hyperparameters): 100 iterations in training, and in use 100 in simulation, 16 by DDIM
    on real arms; and networks of 256 million parameters in simulation, of 67 million on real arms. The released code's:
    512, 1024, 2048 channels for the first and 256, 512, 1024 for the second, which is the default here; kernel, groups,
    the embedding's width, clipping. Keypoints and features are robomimic's, whose image encoder it uses.
    """

    down_dims: tuple[int, ...] = (256, 512, 1024)
    kernel_size: int = 5
    n_groups: int = 8  # of channels that are normalised together
    step_embed_dim: int = 128  # of the noise level
    n_keypoints: int = 32
    n_features: int = 64  # made of a frame's keypoints
    n_train_iterations: int = 100  # noise levels
    n_draws: int = 1  # levels and noises that each sample of a batch is shown at; the paper's is 1
    sampler: Literal["ddpm", "ddim"] = "ddpm"
    n_eval_iterations: int = 100
    # Denoised positions are held within so many times the training positions' range, about its middle. By the released
    # code's, 1, no chunk leaves that range, whatever is seen.
    clip: float = 1.0
    seed: int = 0  # of the noise that chunks are made from

    def __post_init__(self) -> None:
        at_least_one(self, "n_groups", "n_keypoints", "n_features", "n_draws", of="head.diffusion.")
        if not self.down_dims or any(n < 1 or n % self.n_groups for n in self.down_dims):
            raise BadInput(
                f"head.diffusion.down_dims is {self.down_dims}; allowed: multiples of {self.n_groups} groups"
            )
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise BadInput(f"head.diffusion.kernel_size is {self.kernel_size}; allowed: odd numbers")
        if self.step_embed_dim < 4 or self.step_embed_dim % 2:
            raise BadInput(f"head.diffusion.step_embed_dim is {self.step_embed_dim}; allowed: even numbers from 4")
        if not 1 <= self.n_train_iterations <= 1000:
            raise BadInput(f"head.diffusion.n_train_iterations is {self.n_train_iterations}; allowed: 1 to 1000")
        if not 1 <= self.n_eval_iterations <= self.n_train_iterations:
            raise BadInput(
                f"head.diffusion.n_eval_iterations is {self.n_eval_iterations}; allowed: 1 to the"
                f" {self.n_train_iterations} of n_train_iterations"
            )
        if not 1 <= self.clip <= 100:
            raise BadInput(f"head.diffusion.clip is {self.clip}; allowed: 1 to 100")
        if not 0 <= self.seed < 2**32:
            raise BadInput(f"head.diffusion.seed is {self.seed}; allowed: 0 to 2**32 - 1")


class DiffusionHead(CoordinateHead):
    """Keypoints of each frame, and a network that finds the noise in a chunk; chunks are made from noise by it.

    Features are pooled by spatial softmax, as in the paper, and just as the `spatial_softmax` head pools them: between
    the two only what becomes of the keypoints differs. Instead of the robot's state the network sees the start keypoint
    that is in the features, as every head does, and one picture where the paper has two; of a video model it sees each
    future frame as the paper's sees a picture.

    Every chunk is made from the same noise, whatever is seen and however many observations are acted on together: a
    policy is a function of what it sees, and keeps to one of several ways from chunk to chunk. Another `seed` may keep
    to another. `shape.position_mean` and `position_std` are here the middle of the training positions' range and half
    of it, so that they are in [-1, 1], as the gripper is.
    """

    terms = ("denoising",)

    def __init__(self, cfg: DiffusionConfig, shape: CoordinateShape) -> None:
        from diffusers import DDIMScheduler, DDPMScheduler  # seconds, which no other head's users wait for

        super().__init__(shape)
        self.cfg, self.n_frames = cfg, shape.n_frames
        self.maps = Embedding(shape.channels, cfg.n_keypoints)
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.features = nn.Linear(2 * cfg.n_keypoints, cfg.n_features)
        n_seen = shape.n_frames * cfg.n_features
        self.net = TemporalUnet(cfg.down_dims, cfg.kernel_size, cfg.n_groups, cfg.step_embed_dim, 4, n_seen)
        # The network halves a chunk's steps: it is given as many more as that needs, which are masked and not acted on.
        self.n_padded = -(-shape.n_steps // self.net.stride) * self.net.stride
        kind: Any = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}[cfg.sampler]
        self.schedule = kind(
            num_train_timesteps=cfg.n_train_iterations,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="epsilon",
            clip_sample=True,
            clip_sample_range=cfg.clip,
        )
        self.schedule.set_timesteps(cfg.n_eval_iterations)

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch seen"]:
        """What the network is told of the pictures; `loss` and `decode` ask it."""
        points = expected_points(self.maps(features), self.log_temperature)
        return rearrange(self.features(rearrange(points, "bt k c -> bt (k c)")), "(b t) c -> b (t c)", t=self.n_frames)

    def loss(self, prediction: Float[Tensor, "batch seen"], targets: Targets) -> dict[str, Tensor]:
        """Mean squared error of the noise, equation 5; in evaluation of levels and noise that are always the same."""
        draw = None if self.training else torch.Generator().manual_seed(self.cfg.seed)
        gripper = 2 * targets.gripper.where(targets.valid, 0.0).clamp(0, 1) - 1
        chunk = held(torch.cat([self.goal(targets), gripper[..., None]], -1), targets.valid, self.n_padded)
        chunk, seen = (repeat(x, "b ... -> (k b) ...", k=self.cfg.n_draws) for x in (chunk, prediction))
        noise = torch.randn(chunk.shape, generator=draw).to(chunk)
        level = torch.randint(self.cfg.n_train_iterations, (len(chunk),), generator=draw).to(chunk.device)
        error = self.net(self.schedule.add_noise(chunk, noise, level), level, seen).float() - noise
        each = reduce(error[:, : self.n_steps].square(), "(k b) n c -> b n", "mean", k=self.cfg.n_draws)
        return {"denoising": targets.mean(each)}

    @torch.no_grad()
    def sample(self, seen: Float[Tensor, "batch seen"]) -> Float[Tensor, "batch step 4"]:
        """Chunks in [-1, 1], all of one noise: what they begin with, and what DDPM's iterations add."""
        draws = [torch.Generator().manual_seed(self.cfg.seed) for _ in seen]
        x = torch.stack([torch.randn(self.n_padded, 4, generator=draw) for draw in draws]).to(seen.device)
        for level in self.schedule.timesteps:
            noise = self.net(x, level.to(x.device).expand(len(x)), seen).float()
            x = self.schedule.step(noise, level, x, generator=draws).prev_sample
        return x[:, : self.n_steps]

    @torch.no_grad()
    def decode(self, prediction: Float[Tensor, "batch seen"], cameras: list[Camera]) -> list[ActionChunk]:
        position, gripper = self.sample(prediction).split([3, 1], -1)
        opening = ((gripper + 1) / 2).clamp(0, 1)
        return self.chunks(torch.cat([position, opening.logit()], -1))


def held(
    chunk: Float[Tensor, "batch step c"], valid: Bool[Tensor, "batch step"], n: int
) -> Float[Tensor, "batch padded c"]:
    """Of `n` steps, where masked ones repeat the last valid one before, or the first after; zeros where none is.

    The paper's chunks, too, hold their last action past an episode's end.
    """
    step = torch.arange(valid.shape[1], device=valid.device)
    before = torch.where(valid, step, -1).cummax(1).values
    source = torch.where(before < 0, valid.float().argmax(1, keepdim=True), before)
    source = torch.cat([source, repeat(source[:, -1], "b -> b k", k=n - source.shape[1])], 1)
    return chunk.where(valid[..., None], 0.0).gather(1, repeat(source, "b n -> b n c", c=chunk.shape[-1]))
