"""Load a backbone's weights from a file: Evenhand's own, or any checkpoint.

A checkpoint may hold more than the backbone, as in MAE, DINO and MoCo: a projector, a momentum
encoder, a decoder. Its tensors may be in an entry (``state_dict``, ``model``, ``teacher`` …), and
their names may have a prefix (``module.encoder_q.``). The part that fits the backbone is found by
the names of its tensors. A log line says which part was loaded and which was ignored.
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

from evenhand.errors import EvenhandError, first_few
from evenhand.networks.inputs import RGB
from evenhand.runs import open_folder

PICKLED = (".pth", ".pt", ".bin", ".ckpt")
SUFFIXES = (".safetensors", *PICKLED)
_HOLDERS = ("teacher", "state_dict", "model_state_dict", "model", "student", "encoder", "backbone")
"""Entries of a checkpoint that hold weights, the preferred one first (a teacher is the average of
its student)."""
_SECOND = ("momentum", "ema", "target", "encoder_k", "student")
"""Words in the prefix of the copy that is left out if a checkpoint holds two copies."""
_HEADS = (
    "head", "heads", "fc", "classifier", "projector", "projection_head", "proj_head", "predictor",
    "prediction_head", "mask_token", "pre_logits", "last_linear",
)  # fmt: skip
_LEAST_SHARE = 0.5  # of a backbone's names that must be found under a prefix
State = dict[str, Tensor]


@dataclass(frozen=True)
class _Weights:
    """Tensors by name, and the entry of the checkpoint that holds them."""

    tensors: State
    entry: str = ""


@dataclass(frozen=True)
class _Fit:
    """The part of a checkpoint that fits the backbone, under the backbone's names."""

    tensors: State
    prefix: str
    outside: tuple[str, ...]  # names of tensors with another prefix


def weights_file(weights: str) -> Path:
    """Return the file of ``--weights``: the file itself, or that of a run's chosen model.

    Raises
    ------
    EvenhandError
        If there is no such file, its kind is unknown, the run is not finished or has no model, or
        transformers saved the folder.
    """
    path = Path(weights)
    if path.is_dir():
        if (path / "config.json").is_file():
            raise EvenhandError(
                f"--weights {weights} is a folder that transformers saved, not a run. Give it as "
                f"--backbone {weights}, and --weights pretrained to start from its weights."
            )
        run = open_folder(path)
        if not run.finished:
            raise EvenhandError(
                f"the run in {path} is not finished; --weights needs a finished run."
            )
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
    state = {**counters, **state}  # older files lack the counters, which evaluation does not use
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
            f"({'; '.join(wrong[:3])}). Its names begin with {first_few(_beginnings(state))}. Give "
            "the --backbone that it was saved from."
        )


def _refuse_left_over(
    backbone: nn.Module, state: State, own: State, name: str, file: Path
) -> list[str]:
    """Return the names of the head's tensors; refuse any others that the backbone lacks."""
    extra = sorted(state.keys() - own.keys())
    others = [key for key in extra if not (key.startswith(_classifier(backbone)) or _is_head(key))]
    if others and (left_over := sorted(set(others) - _classifier_tensors(name))):
        raise EvenhandError(
            f"{file} is not of {name}: {len(left_over)} of its {len(state)} tensors have no place "
            f"there ({first_few(left_over)}). Give the --backbone that it was saved from."
        )
    return extra


def _report(file: Path, entry: str, fit: _Fit, left: Sequence[str]) -> None:
    """Log the loaded part of a checkpoint, if it holds more than a backbone and its head."""
    parts = [f"its entry '{entry}'"] if entry else []
    parts += [f"the prefix '{fit.prefix}' is stripped"] if fit.prefix else []
    ignored = _beginnings([*left, *fit.outside])
    parts += [f"left out: {first_few(ignored)}"] if ignored and (fit.prefix or entry) else []
    if parts and not (fit.prefix == "backbone." and file.suffix == ".safetensors"):
        _warn_once(f"--weights {file}: {'; '.join(parts)}.")


@cache
def _warn_once(text: str) -> None:
    """Log a warning, each text only once."""
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
    """Return the content of a checkpoint, which may hold tensors, plain values and a Namespace."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with file.open("rb") as opened:
            is_pickle = opened.read(4).startswith((b"PK\x03\x04", b"\x80"))
        if not is_pickle:
            raise EvenhandError(f"{file} cannot be read as a checkpoint: it is none.") from error
        raise EvenhandError(
            f"{file} holds more than tensors, and reading it would run code from the file. If you "
            "trust the file, write its tensors alone, once, on a machine where its code is "
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
            f"{first_few(content)}. Save the network's state_dict() with torch.save."
        )
    holders = [key for key in _HOLDERS if key in held]
    key = holders[0] if holders else max(held, key=lambda name: len(held[name]))
    return _tensors(held[key], file, f"{entry}.{key}" if entry else key)


def _holds_tensors(value: Any) -> bool:
    """Return whether a value maps names to tensors, possibly in nested mappings."""
    return isinstance(value, Mapping) and any(
        isinstance(key, str) and (isinstance(entry, Tensor) or _holds_tensors(entry))
        for key, entry in value.items()
    )


# Finding the backbone in a checkpoint


def _fit(backbone: nn.Module, state: State) -> _Fit:
    """Return the tensors under the prefix under which most of the backbone's names are found."""
    names = list(backbone.state_dict())
    shared = _shared_prefix(names)  # such as "network.", if a network is wrapped in another
    tails = {key.removeprefix(shared) for key in names}
    counts = Counter(prefix for key in state for prefix, tail in _cuts(key) if tail in tails)
    best = max(counts, key=lambda cut: (counts[cut], -_is_second(cut), -len(cut)), default="")
    if counts[best] < _LEAST_SHARE * len(tails):
        best, shared = _wrapping_prefix(state), ""
    inside = {
        shared + key.removeprefix(best): value
        for key, value in state.items()
        if key.startswith(best)
    }
    outside = tuple(key for key in state if not key.startswith(best))
    return _Fit(inside, best if best != shared else "", outside)


def _cuts(key: str) -> Iterator[tuple[str, str]]:
    """Yield each division of a name into a prefix, which ends in a dot, and the remaining name."""
    yield "", key
    for index, letter in enumerate(key):
        if letter == ".":
            yield key[: index + 1], key[index + 1 :]


def _is_second(prefix: str) -> bool:
    return any(word in prefix for word in _SECOND)


def _shared_prefix(names: Sequence[str]) -> str:
    """Return the longest prefix of whole modules that all names have."""
    first, *rest = names
    prefixes = reversed([prefix for prefix, _ in _cuts(first)])
    return next(prefix for prefix in prefixes if all(name.startswith(prefix) for name in rest))


def _wrapping_prefix(state: State) -> str:
    """Return the prefix of a wrapper (``module.``) that all names have, else ""."""
    shared = _shared_prefix(list(state))
    wraps = ("module", "model", "encoder", "backbone", "")
    return shared if all(part in wraps for part in shared.split(".")) else ""


def _is_head(key: str) -> bool:
    first = key.partition(".")[0]
    return first in _HEADS or first.startswith("decoder")


def _beginnings(names: Sequence[str] | State) -> list[str]:
    """Return the different first parts of names."""
    return list(dict.fromkeys(n.removeprefix("module.").partition(".")[0] for n in names))


def _classifier(backbone: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the names of a timm network's classifier layers."""
    config: Any = getattr(backbone, "pretrained_cfg", {})
    layers = config.get("classifier") or ()
    return tuple(f"{layer}." for layer in ([layers] if isinstance(layers, str) else layers))


def _classifier_tensors(name: str) -> set[str]:
    """Return the names of all tensors that belong to the classifier of a timm network.

    Some classifiers have several layers; timm's configuration names only the last one.
    """
    if not timm.is_model(name):
        return set()
    with torch.device("meta"):  # names without memory
        whole, without = timm.create_model(name), timm.create_model(name, num_classes=0)
    return set(whole.state_dict()) - set(without.state_dict())


def _to_channels(backbone: nn.Module, state: State, file: Path) -> State:
    """Return the tensors with timm's adaptation of a three-channel first layer to this backbone."""
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
            _warn_once(f"--weights {file}: {adaptation(channels)}")
    return adapted


def adaptation(channels: int) -> str:
    """Return a sentence on how the weights of a three-channel first layer are adapted."""
    how = "summed" if channels == 1 else "repeated in turn and scaled"
    return (
        f"The images have {channels} channel{'s' * (channels != 1)}, and the network's first layer "
        f"was trained on 3: its weights are {how}, as timm does."
    )


def _adapt(backbone: nn.Module, state: State) -> State:
    """Return the tensors after timm has renamed older ones and resampled position embeddings."""
    adapt = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    try:
        adapted: State = adapt(state, backbone) if adapt else state
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return state  # of another network; a later error lists the differences
    return adapted
