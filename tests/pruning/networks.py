"""Small networks, one for each kind of layer, and what their curvature is by definition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import evenhand  # noqa: F401  # isort: skip  (its guard mends torchvision where it is broken)
import timm
import timm.layers
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

CLASSES = 3
SAMPLES = 6  # half of them in each group


class Residual(nn.Module):
    """Convolutions with in-place activations, a residual link and batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)))
        branch = self.conv2(x)
        branch += x
        return self.head(self.act(branch).mean((2, 3)))


class Words(nn.Module):
    """An embedding in which entries recur, and padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4, padding_idx=0)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x).tanh().sum(1))


class Twice(nn.Module):
    """A linear layer that runs twice: a sample's gradient is the sum over both."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(x).tanh()))


class TwiceConvolved(nn.Module):
    """A convolution that runs twice, whose gradients are not summed over runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(1, 1, 3, padding=1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(x[:, None]).tanh())[:, 0])


class Aside(nn.Module):
    """A layer that runs and whose output nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.aside = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        self.aside(x)
        return self.head(x)


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4)
        self.out.weight = self.into.weight
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.out(self.into(x).tanh()))


class Windows(nn.Module):
    """A layer that sees the windows of a sample as rows, as shifted-window attention does."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x.reshape(-1, 4)).reshape(len(x), -1, CLASSES).sum(1)


def flat(*layers: nn.Module, channels: int) -> nn.Sequential:
    """Return layers on images or series, with pooling and a head."""
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, CLASSES)
    )


class Functional(nn.Module):
    """Attention that multiplies by the weight of a layer itself, with biases of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = timm.models.beit.Attention(8, num_heads=2, qkv_bias=True, window_size=(2, 2))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attn(x).mean(1))


class WindowPositions(nn.Module):
    """Attention in windows of 2 x 2 with a bias by position, which no sample changes."""

    def __init__(self) -> None:
        super().__init__()
        positions = partial(timm.layers.RelPosMlp, window_size=(2, 2), hidden_dim=6)
        self.attn = timm.models.maxxvit.AttentionCl(8, dim_head=4, rel_pos_cls=positions)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.attn(x.reshape(-1, 2, 2, 8))
        return self.head(windows.reshape(len(x), -1, 8).mean(1))


def _relative_vit() -> nn.Module:
    return timm.create_model(
        "vit_srelpos_small_patch16_224", num_classes=CLASSES, img_size=32, embed_dim=8, depth=2,
        num_heads=2, rel_pos_dim=6,
    )  # fmt: skip


def _xcit() -> nn.Module:
    return timm.create_model(
        "xcit_nano_12_p16_224", num_classes=CLASSES, img_size=32, embed_dim=16, depth=1, num_heads=2
    )


def _swin() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224", num_classes=CLASSES, img_size=16, window_size=2,
        depths=(2, 1), embed_dim=4, num_heads=(2, 2),
    )  # fmt: skip


PARTLY: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "windows": (Windows, (5, 4)),
    "functional": (Functional, (5, 8)),
    "swin": (_swin, (3, 16, 16)),
    "shared positions": (_relative_vit, (3, 32, 32)),
    "positions of windows": (WindowPositions, (3, 4, 8)),
    "projected positions": (_xcit, (3, 32, 32)),
}
"""Networks of which weights and norms alone are handled, not tables of positions and factors."""


def _vit() -> nn.Module:
    return timm.create_model(
        "test_vit",
        num_classes=CLASSES,
        img_size=32,
        init_values=0.5,
        embed_dim=16,
        depth=2,
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, CLASSES)), (4,)),
    "twice": (Twice, (4,)),
    "positions": (lambda: flat(nn.Linear(7, 40), nn.GELU(), channels=9), (9, 7)),
    "residual": (Residual, (3, 6, 6)),
    "grouped": (
        lambda: flat(
            nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding=(1, 2), groups=2),
            nn.GELU(),
            nn.Conv2d(6, 6, 3, padding="same", groups=6, padding_mode="circular"),
            nn.Flatten(2),
            channels=6,
        ),
        (4, 12, 12),
    ),
    "conv1d": (
        lambda: flat(
            nn.Conv1d(2, 6, 4, dilation=2, padding="valid"),
            nn.BatchNorm1d(6),
            nn.ReLU(inplace=True),
            nn.GroupNorm(2, 6),
            channels=6,
        ),
        (2, 20),
    ),
    "channels": (
        lambda: flat(
            nn.Conv2d(3, 4, 2), timm.layers.LayerNorm2d(4), timm.layers.LayerScale2d(4),
            nn.Flatten(2), channels=4,
        ),
        (3, 4, 4),
    ),
    "volumes": (
        lambda: flat(
            nn.Conv3d(2, 4, 3, stride=2, padding=1), nn.BatchNorm3d(4), nn.ReLU(),
            nn.Conv3d(4, 4, (1, 2, 2), groups=2), nn.Flatten(2), channels=4,
        ),
        (2, 5, 6, 6),
    ),
    "activated": (
        lambda: flat(
            timm.layers.Conv2dSame(3, 4, 3, stride=2), timm.layers.BatchNormAct2d(4),
            timm.layers.Conv2dSame(4, 4, 4, groups=4),
            timm.layers.GroupNormAct(4, 2, act_layer=nn.SiLU),
            timm.layers.LayerNormAct2d(4, act_layer=nn.GELU), nn.Flatten(2), channels=4,
        ),
        (3, 7, 7),
    ),
    "vit": (_vit, (3, 32, 32)),
    "words": (Words, (7,)),
}  # fmt: skip


def make(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network in float64 and in training mode with all numbers in play, inputs, labels."""
    build, shape = (NETWORKS | PARTLY)[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build().double().train()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.5)
        for buffer_name, buffer in network.named_buffers():
            if buffer_name.endswith(("running_mean", "running_var")):
                nn.init.uniform_(buffer, 0.5, 1.5)
        words = name == "words"
        inputs = torch.randint(0, 5, (SAMPLES, *shape)) if words else torch.randn(SAMPLES, *shape)
        labels = torch.randint(0, CLASSES, (SAMPLES,))
    return network, inputs if words else inputs.double(), labels


def jacobians(network: nn.Module, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return logits ``(n, C)`` and each parameter's Jacobian ``(n, C, *shape)``."""
    network.eval()
    parameters = {name: p.detach() for name, p in network.named_parameters()}

    def logits(own: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(network, own, (x[None],))[0]

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        result = [jacrev(logits)(parameters, x) for x in inputs]
        values = torch.stack([logits(parameters, x) for x in inputs]).detach()
    return values, {name: torch.stack([item[name] for item in result]) for name in parameters}


def exact_ggn(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Return diag(Jᵀ S J), averaged over samples."""
    logits, jacobian = jacobians(network, inputs)
    p = logits.softmax(1)
    spread = torch.diag_embed(p) - p[:, :, None] * p[:, None]  # (n, C, C)
    return {
        name: torch.einsum("nc...,ncd,nd...->n...", values, spread, values).mean(0)
        for name, values in jacobian.items()
    }


def exact_fisher(network: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the mean over samples of the squared gradient of the loss."""
    logits, jacobian = jacobians(network, inputs)
    residual = logits.softmax(1) - torch.nn.functional.one_hot(labels, CLASSES)
    return {
        name: torch.einsum("nc...,nc->n...", values, residual).square().mean(0)
        for name, values in jacobian.items()
    }


def hessian(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Return the Hessian ``(P, P)`` of the mean cross-entropy, all parameters in a row."""
    network.eval()
    shapes = {name: p.shape for name, p in network.named_parameters()}
    start = nn.utils.parameters_to_vector(network.parameters()).detach()

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes.values()])
        own = {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        logits = functional_call(network, own, (inputs,))
        return torch.nn.functional.cross_entropy(logits, labels)

    return jacrev(jacrev(loss))(start).detach()


def by_name(network: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """Return numbers ``(P,)`` as tensors of the parameters' shapes."""
    parts = vector.split([p.numel() for p in network.parameters()])
    named = network.named_parameters()
    return {name: part.view(p.shape) for (name, p), part in zip(named, parts, strict=True)}
