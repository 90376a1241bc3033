"""A backbone filled from a file of weights: Evenhand's own, or anybody's checkpoint.

A checkpoint may hold the backbone inside something larger: under ``state_dict``, ``model``,
``teacher`` …, with a prefix (``module.encoder_q.``), beside a projector, a momentum encoder or a
decoder, as those of MAE, DINO and MoCo do. The part that fits the backbone is found by the names
of its tensors, and a line says what was taken and what was left.
"""

from __future__ import annotations

import argparse
import logging
import os
import pickle
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from evenhand.errors import EvenhandError, some
from evenhand.networks.inputs import RGB
from evenhand.runs import open_folder

PICKLED = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *PICKLED)
_HOLDERS = ("teacher", "state_dict", "model_state_dict", "model", "student", "encoder", "backbone")
"""Entries of a checkpoint that hold weights, the best first: a teacher is its student's average."""
_SECOND = ("momentum", "ema", "target", "encoder_k", "student")
"""Words in the names of those of two copies that nobody uses."""
_HEADS = (
    "head", "heads", "fc", "classifier", "projector", "projection_head", "proj_head", "predictor",
    "prediction_head", "mask_token", "pre_logits", "last_linear",
)  # fmt: skip
_ENOUGH = 0.5  # of a backbone's names, for a prefix to be taken for its own
State = dict[str, Tensor]


@dataclass(frozen=True)
class _Weights:
    """Tensors by name, and which entry of the checkpoint they come from."""

    tensors: State
    entry: str = ""


@dataclass(frozen=True)
class _Fit:
    """The part of a checkpoint that may be the backbone, under the backbone's names."""

    tensors: State
    prefix: str
    outside: tuple[str, ...]  # names of what has another prefix


def weights_file(weights: str) -> Path:
    """Return the file that ``--weights`` means: a file, or that of a run's chosen model.

    Raises
    ------
    EvenhandError
        If there is no such file, its kind is unknown, or the run is not finished or has no model.
    """
    path = Path(weights)
    if path.is_dir():
        run = open_folder(path)
        if not run.finished:
            raise EvenhandError(f"the run in {path} is not finished; --weights needs one that is.")
        file = run.folder(run.head.chosen or "") / "model.safetensors"
        if not file.is_file():
            raise EvenhandError(
                f"the run in {path} holds no model; name a run that does. There is no {file}."
            )
        return file
    if not path.is_file():
        raise EvenhandError(
            f"--weights {weights} is neither a file nor a run. Give pretrained, none, a file "
            f"({', '.join(SUFFIXES)}), or the directory of a finished run."
        )
    if path.suffix not in SUFFIXES:
        raise EvenhandError(
            f"--weights {weights} is no file of weights; those end in {', '.join(SUFFIXES)}."
        )
    return path


def fill(backbone: nn.Module, name: str, file: Path) -> None:
    """Load every weight of the backbone from a file; a head in it is ignored.

    Raises
    ------
    EvenhandError
        If the file is damaged, holds more than tensors, lacks tensors of the backbone, or holds
        tensors that belong neither to the backbone nor to a head.
    """
    weights = _read(file)
    fit = _fit(backbone, weights.tensors)
    state = _adapt(backbone, _to_channels(backbone, fit.tensors, file))
    own = backbone.state_dict()
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked")}
    state = {**counters, **state}  # older files lack them, and evaluation does not read them
    _refuse_lacking(state, own, name, file)
    left = _refuse_left_over(backbone, state, own, name, file)
    backbone.load_state_dict({key: state[key] for key in own})
    _report(file, weights.entry, fit, left)


def _refuse_lacking(state: State, own: State, name: str, file: Path) -> None:
    wrong = [
        f"{key} is {'missing' if key not in state else tuple(state[key].shape)}, not "
        f"{tuple(value.shape)}"
        for key, value in own.items()
        if key not in state or state[key].shape != value.shape
    ]
    if wrong:
        raise EvenhandError(
            f"{file} does not fit {name}: {len(wrong)} of {len(own)} tensors differ "
            f"({'; '.join(wrong[:3])}). Its names begin with {some(_beginnings(state))}. Give the "
            "--backbone that it was saved from."
        )


def _refuse_left_over(
    backbone: nn.Module, state: State, own: State, name: str, file: Path
) -> list[str]:
    """Return the names of the head's tensors, which have no place in the backbone."""
    rest = sorted(state.keys() - own.keys())
    others = [key for key in rest if not (key.startswith(_classifier(backbone)) or _is_head(key))]
    if others and (left_over := sorted(set(others) - _classifier_tensors(name))):
        raise EvenhandError(
            f"{file} is not of {name}: {len(left_over)} of its {len(state)} tensors have no place "
            f"there ({some(left_over)}). Give the --backbone that it was saved from."
        )
    return rest


def _report(file: Path, entry: str, fit: _Fit, left: Sequence[str]) -> None:
    """Log what of a checkpoint was taken, where it held more than a backbone and its head."""
    taken = [f"its entry '{entry}'"] if entry else []
    taken += [f"the prefix '{fit.prefix}' is stripped"] if fit.prefix else []
    ignored = _beginnings([*left, *fit.outside])
    taken += [f"left out: {some(ignored)}"] if ignored and (fit.prefix or entry) else []
    if taken and not (fit.prefix == "backbone." and file.suffix == ".safetensors"):
        _say(f"--weights {file}: {'; '.join(taken)}.")


@cache
def _say(text: str) -> None:
    """Say something once."""
    logging.getLogger(__name__).warning(text)


# Reading


def _read(file: Path) -> _Weights:
    if file.suffix == ".safetensors":
        try:
            return _Weights(load_file(file))
        except (SafetensorError, OSError) as error:
            raise EvenhandError(f"{file} cannot be read as safetensors: {error}") from error
    content = _unpickled(file)
    if not isinstance(content, Mapping):
        raise EvenhandError(
            f"{file} holds a {type(content).__name__}, and no tensors by name. Save the network's "
            "state_dict() with torch.save."
        )
    return _tensors(content, file)


def _unpickled(file: Path) -> Any:
    """Return what a checkpoint holds; plain values and command-line arguments beside tensors."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with file.open("rb") as opened:
            is_pickle = opened.read(4).startswith((b"PK\x03\x04", b"\x80"))
        if not is_pickle:
            raise EvenhandError(f"{file} cannot be read as a checkpoint: it is none.") from error
        raise EvenhandError(
            f"{file} holds more than tensors, and to read that would run code of whoever wrote "
            "it. If you trust the file, write its tensors alone, once, where its code is "
            f"installed:\n  held = torch.load({os.fspath(file)!r}, weights_only=False)\n"
            '  torch.save(held["state_dict"], "tensors.pth")   # of a whole network: '
            "held.state_dict()\nThen give --weights tensors.pth."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise EvenhandError(f"{file} cannot be read as a checkpoint: {reason}") from error


def _tensors(content: Mapping[Any, Any], file: Path, entry: str = "") -> _Weights:
    """Return the tensors of a checkpoint, from the entry that holds them."""
    own = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    held = {key: value for key, value in content.items() if _holds_tensors(value)}
    if len(own) >= 2 or (own and not held):
        return _Weights(own, entry)
    if not held:
        raise EvenhandError(
            f"{file} holds no tensors by name{f' under {entry!r}' if entry else ''}; it has: "
            f"{some(content)}. Save the network's state_dict() with torch.save."
        )
    holders = [key for key in _HOLDERS if key in held]
    key = holders[0] if holders else max(held, key=lambda name: len(held[name]))
    return _tensors(held[key], file, f"{entry}.{key}" if entry else key)


def _holds_tensors(value: Any) -> bool:
    """Whether a value maps names to tensors, perhaps within mappings of its own."""
    return isinstance(value, Mapping) and any(
        isinstance(key, str) and (isinstance(entry, Tensor) or _holds_tensors(entry))
        for key, entry in value.items()
    )


# Finding the backbone in it


def _fit(backbone: nn.Module, state: State) -> _Fit:
    """Return the tensors with the prefix under which most of the backbone's names are."""
    own = list(backbone.state_dict())
    shared = _shared_prefix(own)  # as "network.", where a network is wrapped in another
    tails = {key.removeprefix(shared) for key in own}
    counts = Counter(prefix for key in state for prefix, tail in _cuts(key) if tail in tails)
    best = max(counts, key=lambda cut: (counts[cut], -_is_second(cut), -len(cut)), default="")
    if counts[best] < _ENOUGH * len(tails):
        best, shared = _wrapping_prefix(state), ""
    inside = {
        shared + key.removeprefix(best): value
        for key, value in state.items()
        if key.startswith(best)
    }
    outside = tuple(key for key in state if not key.startswith(best))
    return _Fit(inside, best if best != shared else "", outside)


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    """Yield each way to cut a name into a prefix, with its dot, and the rest."""
    yield "", key
    for place, letter in enumerate(key):
        if letter == ".":
            yield key[: place + 1], key[place + 1 :]


def _is_second(prefix: str) -> bool:
    return any(word in prefix for word in _SECOND)


def _shared_prefix(names: Sequence[str]) -> str:
    """Return the longest prefix of whole modules that all names have."""
    first, *rest = names
    prefixes = reversed([prefix for prefix, _ in _cuts(first)])
    return next(prefix for prefix in prefixes if all(name.startswith(prefix) for name in rest))


def _wrapping_prefix(state: State) -> str:
    """Return ``module.`` where all names begin with it: timm then renames older layouts."""
    shared = _shared_prefix(list(state))
    wraps = ("module", "model", "encoder", "backbone", "")
    return shared if all(part in wraps for part in shared.split(".")) else ""


def _is_head(key: str) -> bool:
    first = key.partition(".")[0]
    return first in _HEADS or first.startswith("decoder")


def _beginnings(names: Sequence[str] | State) -> list[str]:
    """Return what names begin with, each once."""
    return list(dict.fromkeys(n.removeprefix("module.").partition(".")[0] for n in names))


def _classifier(backbone: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the names of a timm network's classifier layers."""
    config: Any = getattr(backbone, "pretrained_cfg", {})
    layers = config.get("classifier") or ()
    return tuple(f"{layer}." for layer in ([layers] if isinstance(layers, str) else layers))


def _classifier_tensors(name: str) -> set[str]:
    """Return the names of the tensors that a timm network has only because of its classifier.

    Some classifiers are more than their last layer, which is all that timm's configuration names.
    """
    if not timm.is_model(name):
        return set()
    with torch.device("meta"):  # names without memory
        whole, without = timm.create_model(name), timm.create_model(name, num_classes=0)
    return set(whole.state_dict()) - set(without.state_dict())


def _to_channels(backbone: nn.Module, state: State, file: Path) -> State:
    """Let timm adapt a first layer that takes three channels to the number of this backbone."""
    own, adapted = backbone.state_dict(), dict(state)
    config: Any = getattr(backbone, "pretrained_cfg", {})
    first = config.get("first_conv") or ()
    for layer in [first] if isinstance(first, str) else first:
        key = f"{layer}.weight"
        if key not in own or key not in state or state[key].ndim != own[key].ndim:
            continue
        channels, held = own[key].shape[1], state[key].shape[1]
        if held == RGB and channels != RGB:
            adapted[key] = adapt_input_conv(channels, state[key])
            _say(f"--weights {file}: {adaptation(channels)}")
    return adapted


def adaptation(channels: int) -> str:
    """Return a sentence on how a first layer of three channels takes another number of them."""
    how = "summed" if channels == 1 else "repeated in turn and scaled"
    return (
        f"The images have {channels} channel{'s' * (channels != 1)}, and the network's first layer "
        f"was trained on 3: its weights are {how}, as timm does."
    )


def _adapt(backbone: nn.Module, state: State) -> State:
    """Let timm rename older layouts and resample position embeddings to this image size."""
    adapt = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    try:
        adapted: State = adapt(state, backbone) if adapt else state
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return state  # of another network: what differs is listed
    return adapted
