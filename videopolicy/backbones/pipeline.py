"""Stable Video Diffusion's folder format: the only user of diffusers and transformers.

A folder that `diffusers.StableVideoDiffusionPipeline.from_pretrained` loads is what a backbone is built from, the
published SVD and our small one alike. Ours also says what it was made for, and its card holds checksums.
"""

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    EulerDiscreteScheduler,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from diffusers.models.resnet import ResnetBlock2D
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.errors import HTTPError
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.utils import logging as transformers_logging

from videopolicy.backbones import checksums
from videopolicy.backbones.carried import WIDTH
from videopolicy.backbones.copy_start import start_copying
from videopolicy.backbones.svd_config import Variant, Weights
from videopolicy.diffusion import SIGMA_MAX, SIGMA_MIN
from videopolicy.errors import BadInput

diffusers_logging.disable_progress_bar()  # a bar per file says nothing here
transformers_logging.disable_progress_bar()

PURPOSE = "videopolicy.json"
MANIFEST = "corpus.jsonl"  # what it was trained on
SHARD = "900KB"  # files small enough for a git repository
CLIP_SIZE = 224  # the pipeline resizes its conditioning image to this [pixels]
NOISE: dict[str, Any] = {  # what a folder's scheduler must say, or its UNet means something else by what it is given
    "prediction_type": "v_prediction",
    "timestep_type": "continuous",
    "sigma_min": SIGMA_MIN,
    "sigma_max": SIGMA_MAX,
}


@dataclass(frozen=True)
class Architecture:
    """Size of a small SVD. All choices are ours; SVD's classes, fewer channels."""

    image_size: tuple[int, int] = (96, 96)  # (width, height) [pixels]
    n_frames: int = 7  # section 4.3
    fps: int = 4  # frames per second of the clips
    channels: tuple[int, ...] = (96, 64, 64, 96)  # of the UNet per level, multiples of 32; the first one: `carried.py`
    attention: tuple[bool, ...] = (False, False, False, True)  # per level; costly on a CPU
    n_layers: int = 1  # per block
    vae_channels: tuple[int, ...] = (96, 32, 96)  # per level; each but the last halves the size
    latent_channels: int = 8
    embedding: int = 64  # width of the image embedding

    def __post_init__(self) -> None:
        if any(c % 32 for c in (*self.channels, *self.vae_channels)):
            raise BadInput(f"channels are {self.channels} and {self.vae_channels}; allowed: multiples of 32")
        if len(self.attention) != len(self.channels):
            raise BadInput(f"attention has {len(self.attention)} entries; allowed: one per level, {len(self.channels)}")
        multiple = 2 ** (len(self.vae_channels) + len(self.channels) - 2)
        if any(side % multiple for side in self.image_size):
            raise BadInput(f"image_size is {self.image_size}; allowed: multiples of {multiple}")
        if self.n_frames < 2:
            raise BadInput(f"n_frames is {self.n_frames}; allowed: at least 2")


@dataclass
class Parts:
    """The networks of a pipeline folder, in full precision, and what the folder was made for (None: anything)."""

    unet: Any  # diffusers' mixins hide that these are modules
    vae: Any
    image_encoder: Any
    purpose: dict | None
    start: str  # digest of the UNet's weights, or `random`, or `copying`
    identity: str  # of what turns pictures into latents and embeddings; no stage trains it


def create(size: Architecture, seed: int) -> Parts:
    """A small SVD with random weights."""
    torch.manual_seed(seed)
    down = ["CrossAttnDownBlockSpatioTemporal" if a else "DownBlockSpatioTemporal" for a in size.attention]
    up = ["CrossAttnUpBlockSpatioTemporal" if a else "UpBlockSpatioTemporal" for a in reversed(size.attention)]
    factor = 2 ** (len(size.vae_channels) - 1)
    unet: Any = UNetSpatioTemporalConditionModel(
        sample_size=size.image_size[1] // factor,
        in_channels=2 * size.latent_channels,
        out_channels=size.latent_channels,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        block_out_channels=size.channels,
        layers_per_block=size.n_layers,
        num_attention_heads=tuple(c // 32 for c in size.channels),
        cross_attention_dim=size.embedding,
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=96,
        num_frames=size.n_frames,
    )
    own: dict[str, Any] = {"latent_channels": size.latent_channels, "scaling_factor": 1.0, "force_upcast": False}
    vae = _vae(size.vae_channels, n_layers=1, sample_size=size.image_size[1], **own)
    encoder = _image_encoder(64, 128, n_layers=2, n_heads=2, patch_size=32, projection_dim=size.embedding)
    purpose = {"image_size": list(size.image_size), "n_frames": size.n_frames, "fps": size.fps}
    return Parts(unet, vae, encoder, purpose, "random", identity(vae, encoder))


def published() -> tuple[Any, Any, Any]:
    """UNet, VAE and image encoder as large as the published SVD's, with random weights, on torch's default device."""
    unet: Any = UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20), num_frames=14)
    vae = _vae((128, 256, 512, 512), n_layers=2)
    more: dict[str, Any] = {"projection_dim": 1024, "hidden_act": "gelu"}
    encoder = _image_encoder(1280, 5120, n_layers=32, n_heads=16, patch_size=14, **more)
    device = torch.get_default_device()  # some of diffusers' parameters are made elsewhere
    return unet.to(device), vae.to(device), encoder.to(device)


def _vae(channels: tuple[int, ...], n_layers: int, **more: Any) -> Any:
    """SVD's kind of VAE, each level but the last halving the size."""
    down = ("DownEncoderBlock2D",) * len(channels)
    return AutoencoderKLTemporalDecoder(
        down_block_types=down, block_out_channels=channels, layers_per_block=n_layers, **more
    )


def _image_encoder(width: int, mlp: int, n_layers: int, n_heads: int, **more: Any) -> Any:
    """SVD's kind of image encoder, `mlp` the width inside its blocks."""
    size: dict[str, Any] = {"hidden_size": width, "intermediate_size": mlp, "image_size": CLIP_SIZE}
    config = CLIPVisionConfig(num_hidden_layers=n_layers, num_attention_heads=n_heads, **size, **more)
    return CLIPVisionModelWithProjection(config)


def described(unet: Any, vae: Any, image_encoder: Any) -> dict[str, dict]:
    """Networks' configurations as plain values, without the folder they came from: for `untrained`."""
    of_encoder, left_out = image_encoder.config.to_diff_dict(), ("transformers_version", "dtype")
    encoder = {k: v for k, v in of_encoder.items() if k not in left_out}
    both = (("unet", unet), ("vae", vae))
    plain = {name: {k: v for k, v in network.config.items() if not k.startswith("_")} for name, network in both}
    return {**plain, "image_encoder": encoder}


def untrained(described: dict[str, dict], identity: str) -> Parts:
    """Networks of such configurations with random weights, which are yet to be replaced by those of `identity`."""
    unet = UNetSpatioTemporalConditionModel.from_config(described["unet"])
    vae = AutoencoderKLTemporalDecoder.from_config(described["vae"])
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(described["image_encoder"]))
    return Parts(unet, vae, encoder, None, "random", identity)


def save(parts: Parts, folder: Path) -> None:
    """Write a whole pipeline folder, UNet and VAE in half precision."""
    scheduler = EulerDiscreteScheduler(
        beta_schedule="scaled_linear",
        interpolation_type="linear",
        use_karras_sigmas=True,
        timestep_spacing="leading",
        steps_offset=1,
        **NOISE,
    )
    extractor = CLIPImageProcessor(size={"shortest_edge": CLIP_SIZE}, crop_size=CLIP_SIZE)
    # transformers loads weights in the precision of their file, diffusers in full precision: one pipeline wants both
    # alike, so that the small image encoder is not halved.
    vae, unet = _half(parts.vae), _half(parts.unet)
    pipeline: Any = StableVideoDiffusionPipeline(vae, parts.image_encoder, unet, scheduler, extractor)
    pipeline.save_pretrained(folder, max_shard_size=SHARD)
    (folder / PURPOSE).write_text(json.dumps(parts.purpose, indent=1) + "\n")


def load(pretrained: Path | None, weights: Weights = "pretrained", variant: Variant = None) -> Parts:
    """The networks of a pipeline folder, or of a repository of the model hub; the UNet's weights may be drawn anew.

    None: networks as large as the published SVD's, all of their weights random.
    Raises `BadInput` in one line for what is missing, incomplete or altered.
    """
    if pretrained is None:
        if weights != "random":
            raise BadInput(f"backbone.weights is {weights!r}; allowed with backbone.pretrained null: 'random'")
        with torch.random.fork_rng(devices=[]):  # always the same ones, or a checkpoint would not find its own
            torch.manual_seed(0)
            unet, vae, encoder = published()
        return Parts(unet, vae, encoder, None, "random", "random")
    folder = find(pretrained, variant)
    problem = checksums.damage(folder)
    if problem:
        raise BadInput(f"the weights in {folder} are not those of their card: {problem}")
    full: dict[str, Any] = {"local_files_only": True, "use_safetensors": True, "variant": variant}
    diffusers: dict[str, Any] = {"torch_dtype": torch.float32, "low_cpu_mem_usage": False, **full}
    try:
        if weights == "pretrained":
            unet = UNetSpatioTemporalConditionModel.from_pretrained(folder, subfolder="unet", **diffusers)
        else:
            config = UNetSpatioTemporalConditionModel.load_config(folder, subfolder="unet", local_files_only=True)
            unet = UNetSpatioTemporalConditionModel.from_config(config)
        vae = AutoencoderKLTemporalDecoder.from_pretrained(folder, subfolder="vae", **diffusers)
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            folder, subfolder="image_encoder", dtype=torch.float32, **full
        )
        scheduler: Any = EulerDiscreteScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        hint = "" if variant else "; where its files are named .fp16., backbone.variant is fp16"
        reason = " ".join(str(error).split())[:300]
        raise BadInput(f"cannot load the video model in {folder}: {reason}{hint}") from error
    for name, value in NOISE.items():
        if (theirs := scheduler.config.get(name)) != value:
            raise BadInput(f"the scheduler of {folder} has {name} {theirs!r}; allowed: {value!r}, as SVD's own")
    skip_silent(vae.encoder)
    if weights == "copying" and not start_copying(unet, vae.config.scaling_factor):
        width, n_in, n_out = unet.config.block_out_channels[0], unet.config.in_channels, unet.config.out_channels
        raise BadInput(
            f"backbone.weights is 'copying', but the UNet of {folder} has {width} channels at its first level and maps"
            f" {n_in} to {n_out}; allowed: 'copying' with {WIDTH} and 2 n to n <= {WIDTH // 3}, 'random', 'pretrained'"
        )
    purpose = folder / PURPOSE
    made_for = _purpose(purpose) if purpose.is_file() else None
    start = checksums.digest(unet) if weights == "pretrained" else weights
    return Parts(unet, vae, encoder, made_for, start, identity(vae, encoder))


def find(pretrained: Path, variant: Variant = None) -> Path:
    """The folder of a video model: a folder's own path, or the hub's local copy of a repository, fetched if need be."""
    if (pretrained / "model_index.json").is_file():
        return pretrained
    name = str(pretrained)
    if pretrained.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith("."):
        raise BadInput(f"{pretrained} holds no video model: model_index.json is missing (a diffusers pipeline folder)")
    given: dict[str, Any] = {"variant": variant, "use_safetensors": True}
    try:
        try:
            return Path(StableVideoDiffusionPipeline.download(name, **given))
        except HTTPError:  # a connection that hangs or breaks; diffusers looks into the cache for others alone
            return Path(StableVideoDiffusionPipeline.download(name, local_files_only=True, **given))
    except (OSError, ValueError) as error:  # the hub's own are either
        raise BadInput(
            f"backbone.pretrained {name} is no folder, and the model hub does not give it"
            f" ({type(error).__name__}): accept its licence at https://huggingface.co/{name}, then either log in with"
            f" `hf auth login` and run this again, or run `hf download {name} --local-dir {pretrained.name}` where the"
            " hub can be reached, and name that folder"
        ) from error


class _Silent(ResnetBlock2D):
    """A residual block whose last layer is zero: what it adds need not be computed."""

    def forward(self, input_tensor: Any, *_args: Any, **_kwargs: Any) -> Any:
        return input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)


def skip_silent(network: Any) -> None:
    """Leave out of a frozen network's forward what adds exactly nothing: most of an encoder made in closed form."""
    for block in network.modules():
        if type(block) is ResnetBlock2D and not any(p.any() for p in block.conv2.parameters()):
            block.__class__ = _Silent


def _purpose(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}") from error


def _half(network: nn.Module) -> Any:
    """A copy in half precision."""
    return copy.deepcopy(network).half()


def identity(vae: Any, image_encoder: Any) -> str:
    """A digest of the VAE's encoder, its scale and the image encoder, however they are stored. Decoders may differ."""
    return checksums.digest(vae.encoder, vae.quant_conv, image_encoder, salt=str(vae.config.scaling_factor))
