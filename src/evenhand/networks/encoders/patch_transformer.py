"""A transformer on patches of time steps (as PatchTST: Nie et al., ICLR 2023, arXiv 2211.14730).

A patch holds all variables of a few steps, their masks, and the time since each was last observed.
This is PatchTST's variant that mixes channels, because most variables are missing in most steps.
"""

from __future__ import annotations

import math

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenhand.networks.encoders.layers import SeriesEncoder, steps_since_seen
from evenhand.networks.registry import register_series_encoder

PATCH = 4  # steps
WIDTH, DEPTH, HEADS, MLP_RATIO = 64, 3, 4, 2.0
INPUT_DROPOUT, DROPOUT = 0.3, 0.2


class PatchEmbedding(nn.Module):
    """Maps patches of steps to tokens, and adds a learnt position to each.

    The last patch is padded with unobserved steps.
    """

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.patch = min(PATCH, steps)
        count = math.ceil(steps / self.patch)
        self.proj = nn.Linear(channels // 2 * 3 * self.patch, WIDTH)
        self.position = nn.Parameter(torch.empty(1, count, WIDTH))
        nn.init.trunc_normal_(self.position, std=0.02)

    def forward(self, series: Tensor) -> Tensor:
        """Return tokens ``(B, N, D)`` of series ``(B, 2C, T)``."""
        observed = series.chunk(2, dim=1)[1]
        read = torch.cat([series, steps_since_seen(observed).log1p()], dim=1)  # (B, 3C, T)
        read = F.dropout(read, INPUT_DROPOUT, self.training)
        padded = F.pad(read, (0, -read.shape[2] % self.patch))
        patches = padded.unfold(2, self.patch, self.patch).transpose(1, 2).flatten(2)  # (B, N, 3CP)
        tokens: Tensor = self.proj(patches) + self.position
        return tokens


class PatchTransformer(SeriesEncoder):
    """Patches of time steps as tokens, pre-norm blocks, and the mean of the tokens.

    ``forward`` takes ``(B, 2C, T)``, held values and then whether they were observed, and returns
    ``(B, 64)``. Units are those of a ViT: ``patch_embed``, ``blocks.N.attn``, ``blocks.N.mlp``,
    ``blocks.N.norm1``, ``blocks.N.norm2`` and ``norm``.
    """

    head_hidden_size = WIDTH
    output_fmt = "NLC"  # layers return tokens, then features

    def __init__(self, channels: int, steps: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(channels, steps)
        self.blocks = nn.Sequential(
            *(
                Block(WIDTH, HEADS, MLP_RATIO, qkv_bias=True, proj_drop=DROPOUT, attn_drop=DROPOUT)
                for _ in range(DEPTH)
            )
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.feature_info = [{"module": f"blocks.{number}"} for number in range(DEPTH)]

    def forward(self, series: Tensor) -> Tensor:
        """Return features ``(B, 64)`` of series ``(B, 2C, T)``."""
        tokens: Tensor = self.norm(self.blocks(self.patch_embed(series)))
        return tokens.mean(dim=1)


@register_series_encoder("patch_transformer")
def make_patch_transformer(channels: int, steps: int) -> PatchTransformer:
    """Return a transformer on patches of time steps: values, masks and time since last seen."""
    return PatchTransformer(channels, steps)
