"""Action Chunking with Transformers (Zhao et al. 2023), with the paper's defaults, on any backbone's features."""

import math
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from videopolicy.backbones.backbone import FeatureMap
from videopolicy.camera import Camera
from videopolicy.errors import BadInput, at_least_one
from videopolicy.heads.coordinates import CoordinateHead, CoordinateShape
from videopolicy.heads.embedding import Embedding
from videopolicy.heads.head import Targets
from videopolicy.heads.position import check_width, position_encoding
from videopolicy.types import ActionChunk


@dataclass(frozen=True)
class ActConfig:
    """Table III of the paper. Its released code has 7 decoder layers and reads the first, so that 1 is what it used."""

    width: int = 512
    feedforward: int = 3200
    n_heads: int = 8
    n_encoder_layers: int = 4
    n_decoder_layers: int = 1
    n_latent: int = 32
    kl_weight: float = 10.0
    dropout: float = 0.1
    stride: int = 32  # pixels per token: the stride of the paper's ResNet

    def __post_init__(self) -> None:
        check_width("act", self.width, self.n_heads)
        at_least_one(self, "n_encoder_layers", "n_decoder_layers", "n_latent", "stride", "feedforward", of="head.act.")
        if not 0 <= self.kl_weight < math.inf:
            raise BadInput(f"head.act.kl_weight is {self.kl_weight}; allowed: at least 0")
        if not 0 <= self.dropout < 1:
            raise BadInput(f"head.act.dropout is {self.dropout}; allowed: 0 to below 1")


class ActHead(CoordinateHead):
    """A variational encoder of the true chunk, a transformer over image tokens and its latent, a query per step.

    The latent is drawn while training and 0, its prior's mean, when acting. Instead of joint angles the networks see
    the start keypoint that is in the features.
    """

    terms = ("position", "gripper", "kl")

    def __init__(self, cfg: ActConfig, shape: CoordinateShape) -> None:
        super().__init__(shape)
        self.cfg = cfg
        self.tokens = (max(shape.image_size[1] // cfg.stride, 1), max(shape.image_size[0] // cfg.stride, 1))
        sizes = (cfg.width, cfg.n_heads, cfg.feedforward, cfg.dropout)
        self.embed = Embedding(shape.channels, cfg.width)
        self.frame_embedding = nn.Parameter(torch.zeros(shape.n_frames, cfg.width))
        encoder = nn.TransformerEncoderLayer(*sizes, batch_first=True)
        self.encoder = nn.TransformerEncoder(encoder, cfg.n_encoder_layers, enable_nested_tensor=False)
        decoder = nn.TransformerDecoderLayer(*sizes, batch_first=True)
        self.decoder = nn.TransformerDecoder(decoder, cfg.n_decoder_layers, nn.LayerNorm(cfg.width))
        self.query = nn.Parameter(torch.randn(shape.n_steps, cfg.width))
        self.latent = nn.Linear(cfg.n_latent, cfg.width)
        self.out = nn.Linear(cfg.width, 4)
        # The variational encoder: a token to summarise, and one per step of the true chunk.
        self.action = nn.Linear(4, cfg.width)
        self.summary = nn.Parameter(torch.randn(1 + shape.n_steps, cfg.width))
        posterior = nn.TransformerEncoderLayer(*sizes, batch_first=True)
        self.posterior = nn.TransformerEncoder(posterior, cfg.n_encoder_layers, enable_nested_tensor=False)
        self.to_latent = nn.Linear(cfg.width, 2 * cfg.n_latent)

    def forward(self, features: FeatureMap) -> Float[Tensor, "batch token width"]:
        """The image's tokens; what they say of the chunk depends on the latent, so `loss` and `decode` ask them."""
        b, t = features.dense.shape[:2]
        small = F.adaptive_avg_pool2d(rearrange(features.dense, "b t c h w -> (b t) c h w"), self.tokens)
        few = FeatureMap(rearrange(small, "(b t) c h w -> b t c h w", b=b))
        cells = rearrange(self.embed(few), "(b t) c h w -> b t (h w) c", b=b) + self.frame_embedding[:, None]
        where = position_encoding(*self.tokens, self.cfg.width, cells)
        return rearrange(cells + where, "b t k c -> b (t k) c", t=t)

    def chunk(
        self, tokens: Float[Tensor, "batch token width"], latent: Float[Tensor, "batch n_latent"]
    ) -> Float[Tensor, "batch step 4"]:
        memory = self.encoder(torch.cat([self.latent(latent)[:, None], tokens], 1))
        return self.out(self.decoder(repeat(self.query, "n c -> b n c", b=len(tokens)), memory)).float()

    def encode_chunk(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (batch n_latent) of the latent, from the true chunk; masked steps are not seen."""
        gripper = targets.gripper.where(targets.valid, 0.0)
        actions = self.action(torch.cat([self.goal(targets), gripper[..., None]], -1))
        summary = torch.zeros_like(actions[:, :1])
        unseen = torch.cat([torch.zeros_like(targets.valid[:, :1]), ~targets.valid], 1)
        encoded = self.posterior(torch.cat([summary, actions], 1) + self.summary, src_key_padding_mask=unseen)
        mean, log_variance = self.to_latent(encoded[:, 0]).float().chunk(2, -1)
        return mean, log_variance

    def loss(self, prediction: Float[Tensor, "batch token width"], targets: Targets) -> dict[str, Tensor]:
        """L1, the gripper's cross-entropy, and the latent's divergence from its prior, weighted. Equation 3."""
        mean, log_variance = self.encode_chunk(targets)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        chunk = self.chunk(prediction, mean + (0.5 * log_variance).exp() * noise)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(-1)
        kl = targets.mean_over_samples(divergence)
        return {**self.coordinate_loss(chunk, targets), "kl": self.cfg.kl_weight * kl}

    @torch.no_grad()
    def decode(self, prediction: Float[Tensor, "batch token width"], cameras: list[Camera]) -> list[ActionChunk]:
        latent = prediction.new_zeros(len(prediction), self.cfg.n_latent)
        return self.chunks(self.chunk(prediction, latent))
