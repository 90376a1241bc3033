"""MAE (He et al., CVPR 2022): a decoder reconstructs the patches that the encoder does not see."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Generator, Tensor, nn

from evenhand.errors import EvenhandError
from evenhand.networks.augment import crop_images
from evenhand.pretraining.learners import Encoder, Learner, LearnerBatch
from evenhand.pretraining.registry import SSLObjective, register_ssl
from evenhand.pretraining.views.images import SMALLEST_CROP

MASKED = 0.75  # share of the patches
WIDEST, DEPTH, HEAD = 128, 2, 16  # decoder: largest width, blocks, width of an attention head
EPSILON = 1e-6


def pixel_targets(patches: Tensor) -> Tensor:
    """Return patches ``(B, N, P)``, each standardised to mean 0 and variance 1 over its pixels."""
    centred = patches - patches.mean(dim=2, keepdim=True)
    return centred / (patches.var(dim=2, keepdim=True) + EPSILON).sqrt()


def mae_loss(predicted: Tensor, patches: Tensor, masked: Tensor) -> Tensor:
    """Return the mean squared error at the pixels of masked patches.

    The loss is (1 / |M|) Σ_{i∈M} ‖x̂_i − (x_i − μ_i) / σ_i‖² / P, with M the masked patches of all
    samples, P the number of values in a patch, and μ_i and σ_i the mean and standard deviation of
    patch i.

    Parameters
    ----------
    predicted, patches
        Predicted and true patches ``(B, N, P)``.
    masked
        ``(B, N)``, True for each masked patch.

    References
    ----------
    He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, section 3,
    "Reconstruction target", with normalised pixels.
    """
    errors = (predicted.float() - pixel_targets(patches.float())).square().mean(dim=2)
    return (errors * masked).sum() / masked.sum()


@register_ssl("mae", modality="images", views=1)
class Mae(Learner):
    """Reconstruct three quarters of an image's patches from the quarter that the encoder sees.

    The encoder is a vision transformer of timm; masked patches do not reach its blocks. A light
    decoder gets the encoder's tokens, a mask token for each masked patch, and positions. Images are
    only cropped and mirrored. Modules after the last norm (attention pooling) are not trained.

    Misleads by its loss: features that restore pixels well need not distinguish diseases.
    """

    def __init__(self, objective: SSLObjective, encoder: Encoder) -> None:
        network = encoder.network
        if not isinstance(network, VisionTransformer):
            raise EvenhandError(
                f"--ssl mae needs a vision transformer of timm (vit_*, deit_*), whose patches can "
                f"be masked; the backbone is a {type(network).__name__}. Give another --backbone "
                "or another --ssl."
            )
        super().__init__(objective, encoder)
        embedding: Any = network.patch_embed
        self.patch = int(embedding.patch_size[0])
        self.count = int(embedding.num_patches)
        self.visible_count = max(1, round((1 - MASKED) * self.count))
        channels = encoder.shape[0]
        self.decoder = _Decoder(
            network.embed_dim, self.count, network.num_prefix_tokens, channels * self.patch**2
        )

    def draw(self, samples: Tensor, rng: Generator) -> LearnerBatch:
        """Return images, and a random order of the patches of each; the first ones are visible."""
        images = crop_images(samples, rng, turns=False, smallest=SMALLEST_CROP)
        noise = torch.rand(len(images), self.count, generator=rng, device=images.device)
        return self.read(images), noise.argsort(dim=1)

    def forward(self, *batch: Tensor) -> Tensor:
        """Return the loss of images, given the order of their patches."""
        images, order = batch
        visible, hidden = order.tensor_split((self.visible_count,), dim=1)
        predicted = self.decoder(self.encode(images, visible), visible)
        masked = torch.zeros_like(order, dtype=torch.bool).scatter(1, hidden, value=True)
        return mae_loss(predicted, patches_of(images, self.patch), masked)

    def encode(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return the encoder's tokens ``(B, prefix + K, D)`` for the visible patches ``(B, K)``."""
        vit: Any = self.encoder
        tokens: Tensor = vit._pos_embed(vit.patch_embed(images))
        prefix, patches = tokens.tensor_split((vit.num_prefix_tokens,), dim=1)
        tokens = torch.cat([prefix, _pick(patches, visible)], dim=1)
        out: Tensor = vit.norm(vit.blocks(vit.norm_pre(tokens)))
        return out


class _Decoder(nn.Module):
    """Transformer blocks on the encoder's tokens and mask tokens, in the order of the image."""

    def __init__(self, width: int, count: int, prefix: int, values: int) -> None:
        super().__init__()
        narrow = min(WIDEST, HEAD * max(1, width // HEAD))
        self.prefix = prefix
        self.embed = nn.Linear(width, narrow)
        self.mask = nn.Parameter(torch.zeros(1, 1, narrow))
        self.position = nn.Parameter(torch.zeros(1, count, narrow))
        for weights in (self.mask, self.position):
            nn.init.trunc_normal_(weights, std=0.02)
        self.blocks = nn.Sequential(*(Block(narrow, narrow // HEAD) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(narrow)
        self.predict = nn.Linear(narrow, values)

    def forward(self, tokens: Tensor, visible: Tensor) -> Tensor:
        """Return predicted patches ``(B, N, P)`` from the tokens of the visible patches."""
        prefix, patches = self.embed(tokens).tensor_split((self.prefix,), dim=1)
        tokens_in_order = self.mask.to(patches.dtype).repeat(len(tokens), self.position.shape[1], 1)
        index = visible[:, :, None].expand(-1, -1, patches.shape[2])
        tokens_in_order = tokens_in_order.scatter(1, index, patches) + self.position
        out = self.blocks(torch.cat([prefix, tokens_in_order], dim=1))[:, self.prefix :]
        predicted: Tensor = self.predict(self.norm(out))
        return predicted


def patches_of(images: Tensor, side: int) -> Tensor:
    """Return the patches of images ``(B, C, H, W)`` as rows ``(B, N, C × side²)``."""
    return nn.functional.unfold(images, side, stride=side).transpose(1, 2)


def _pick(patches: Tensor, places: Tensor) -> Tensor:
    return patches.gather(1, places[:, :, None].expand(-1, -1, patches.shape[2]))
