"""Try the parts of Evenhand on a network of each timm family, and print a table.

A small network of each family is built without weights, at 64 pixels if possible, and each part is
tried on four noise images: the division into units, masks of attention and MLP, LoRA, caching of
the first layers (truncation), saliency by group (ggn-mc, compared with autograd), one step of
weight pruning, and channels. A part that takes more CPU time than ``--limit`` is stopped, and its
cell says so. Each network's row is written to a file of JSON lines at once, so that a stopped run
continues; ``--table`` prints the table of this file.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import evenhand  # isort: skip  (its guard mends torchvision where it is broken)
import torch

from evenhand import EvenhandError, build_model, group_saliency
from evenhand.masks.strategies import find_strategy
from evenhand.masks.truncate import truncate_at
from evenhand.masks.units import all_units, families, parts
from evenhand.networks.model import Model
from evenhand.pruning.channels import refuse_unprunable, remove_weights
from evenhand.pruning.loop import PruningState, count_kept

SIZE = 64
NETWORKS = (
    "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224",
    "vit_small_patch16_dinov3", "eva02_tiny_patch14_224", "beit_base_patch16_224",
    "swin_tiny_patch4_window7_224", "twins_svt_small", "vit_srelpos_small_patch16_224",
    "hrnet_w18_small", "test_efficientnet", "efficientnet_lite0", "tf_efficientnet_b0",
    "mobilenetv3_small_050", "regnetx_002", "resnet18", "densenet121", "convnext_atto", "pvt_v2_b0",
    "levit_128s", "pit_ti_224", "xcit_nano_12_p16_224", "mobilevit_xxs", "efficientvit_b0",
    "tiny_vit_5m_224", "vgg11_bn", "regnety_002", "seresnet18", "res2net50_14w_8s", "resnext26ts",
    "cait_xxs24_224", "swinv2_cr_tiny_ns_224", "mvitv2_tiny", "maxvit_rmlp_pico_rw_256",
    "coatnet_pico_rw_224", "coat_tiny", "crossvit_tiny_240", "efficientformer_l1",
    "efficientformerv2_s0", "efficientvit_m0", "mobilevitv2_050", "edgenext_xx_small", "fastvit_t8",
    "repvit_m0_9", "poolformer_s12", "caformer_s18", "davit_tiny", "hiera_tiny_224", "nest_tiny",
    "convit_tiny", "tnt_s_legacy_patch16_224", "visformer_tiny", "volo_d1_224", "mixer_s32_224",
    "resmlp_12_224", "gmlp_ti16_224", "resnetv2_50", "dla34", "convnextv2_atto", "efficientnet_b0",
    "mobilenetv4_conv_small", "ghostnet_100", "mnasnet_small", "inception_v3", "xception41",
    "nfnet_f0", "rexnet_100", "selecsls42", "cspresnet50", "hardcorenas_a", "tinynet_e",
    "starnet_s1", "focalnet_tiny_srf", "beitv2_base_patch16_224",
)  # fmt: skip
COLUMNS = ("units", "attention", "mlp", "lora", "truncation", "saliency", "weights", "channels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="file of JSON lines")
    parser.add_argument("--limit", type=float, default=60, help="CPU seconds for each part")
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    lines = arguments.results.read_text().splitlines() if arguments.results.is_file() else []
    rows = {row["network"]: row for row in map(json.loads, lines)}
    if arguments.table:
        print(table(rows))
        return
    for name in NETWORKS:
        if name not in rows:
            with arguments.results.open("a") as file:
                print(json.dumps(tried(name, arguments.limit)), file=file, flush=True)


class OutOfTimeError(BaseException):
    """A part takes too long; no handler of errors in that part may take it for one."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `OutOfTimeError` in the block when this process has computed for so long in it."""

    def stop(*_: object) -> None:
        raise OutOfTimeError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1)  # again, if a bare except took it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def tried(name: str, limit: float) -> dict[str, str]:
    """Return for each column what works, or the reason why it does not."""
    try:
        model = model_of(name)
    except EvenhandError as error:
        return {"network": name, "size": "", **dict.fromkeys(COLUMNS, first_line(error))}
    parts_of_evenhand: dict[str, Callable[[Model], str]] = {
        "units": lambda model: str(len(all_units(model.backbone)) and len(parts(model.backbone))),
        "attention": lambda model: bits(model, "attention"),
        "mlp": lambda model: bits(model, "mlp"),
        "channels": channels,
        "truncation": truncation,
        "saliency": saliency,
        "weights": weights,
        "lora": lora,  # last, as it changes the model
    }
    row = {"network": name, "size": str(model.spec.images)}
    for column, work in parts_of_evenhand.items():
        try:
            with time_limit(limit):
                row[column] = work(model)
        except OutOfTimeError:
            row[column] = f"longer than {limit:g} s"
            model = model_of(name)
        except EvenhandError as error:
            row[column] = f"no: {first_line(error)}"
        except Exception as error:  # a bug, which the table shows
            row[column] = f"fails: {type(error).__name__}: {first_line(error)}"
    values_by.cache_clear()
    return row


def model_of(name: str) -> Model:
    """Return the model at 64 pixels, or at the size that its network needs."""
    for size in (SIZE, 56, 224, 256, 240):
        try:
            return build_model(name, "none", size, ("a", "b"), 0).eval()
        except (EvenhandError, RuntimeError, ValueError, AssertionError) as error:
            last = error
    raise EvenhandError(first_line(last))


def bits(model: Model, family: str) -> str:
    """Return how many units a search space has."""
    spaces = families(model.backbone)
    return str(len(spaces[family].units)) if family in spaces else "none"


def lora(model: Model) -> str:
    """Run the network with updates on query and value."""
    changed, _ = find_strategy("lora")(model, 0)
    changed(torch.zeros(2, *model.spec.inputs.shape)).sum().backward()
    return "yes"


def truncation(model: Model) -> str:
    """Cut the network behind its blocks or stages, or at the nearest place where that is exact."""
    backbone = model.backbone.requires_grad_(False)
    deepest = parts(backbone)[-1].depth
    truncation = truncate_at(backbone, deepest, batch(model)[0])
    backbone.requires_grad_(True)
    return "none" if truncation is None else f"{truncation.depth} of {deepest}"


@cache
def values_by(model: Model, estimator: str) -> dict[str, torch.Tensor]:
    """Return saliency by group of all convolutions and linear layers."""
    roles = {"unprivileged": "f", "betas": {"m": 0.3}}
    return group_saliency(model, [batch(model)], estimator=estimator, **roles)


def saliency(model: Model) -> str:
    values_by(model, "ggn-mc")
    return "yes"


def weights(model: Model) -> str:
    """Remove a tenth of the weights, by ggn-mc or else by the estimator that takes any layer."""
    try:
        estimator, values = "ggn-mc", values_by(model, "ggn-mc")
    except EvenhandError:
        estimator, values = "hutchinson", values_by(model, "hutchinson")
    mask = {name: torch.ones_like(value, dtype=torch.bool) for name, value in values.items()}
    total = count_kept(mask)
    state = remove_weights(PruningState(model, mask, total, total), values, total // 10)
    return estimator if state.left < total else "no: nothing was removed"


def channels(model: Model) -> str:
    """Remove channels, and check that a new model of these widths takes the remaining weights."""
    refuse_unprunable(model)
    return "yes"


def batch(model: Model) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Return four noise images with labels and groups."""
    images = torch.rand(4, *model.spec.inputs.shape, generator=torch.Generator().manual_seed(0))
    return images, torch.tensor([0, 1, 0, 1]), ["f", "f", "m", "m"]


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def table(rows: dict[str, dict[str, str]]) -> str:
    """Return the table in Markdown, with numbered reasons below."""
    reasons: dict[str, int] = {}

    def cell(text: str, network: str) -> str:
        if ": " not in text:
            return text
        text = text.replace(network, "the network")
        return f"no [{reasons.setdefault(text, len(reasons) + 1)}]"

    lines = [
        f"| network | pixels | {' | '.join(COLUMNS)} |",
        f"|---|---|{'---|' * len(COLUMNS)}",
    ]
    for name in filter(rows.__contains__, NETWORKS):
        row = rows[name]
        cells = " | ".join(cell(row[column], name) for column in COLUMNS)
        lines.append(f"| `{name}` | {row['size']} | {cells} |")
    notes = [f"{number}. {text.partition(': ')[2]}" for text, number in reasons.items()]
    return "\n".join([*lines, "", *notes])


if __name__ == "__main__":
    assert evenhand.__file__
    main()
