"""Prune any network for an unprivileged group, step by step within a budget."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from evenhand.errors import EvenhandError, UnknownNameError, pick
from evenhand.networks.calling import (
    CallError,
    Forward,
    logits_of,
    move_to_device,
    require_gradients,
    restore_state,
)
from evenhand.networks.head import find_head
from evenhand.networks.model import unprunable_attentions
from evenhand.pruning.by_group import Batches, Scoring, make_scoring
from evenhand.pruning.channels import Trace, cut_channels, remove_weights
from evenhand.pruning.loop import (
    IN_CHANNELS,
    Pace,
    PruningState,
    Remove,
    WeightMask,
    apply_mask,
    count_kept,
    freeze_zeros,
    keep_all,
    prunable,
    prune_steps,
)

Evaluate = Callable[[nn.Module], float | tuple[float, float]]
"""Function of a network; it returns the network's value on validation data, larger is better.

A pair is the value by which the best step is chosen, and the value that the budget protects."""


@dataclass(frozen=True, eq=False)
class Pruned:
    """A pruned network.

    Attributes
    ----------
    module
        A pruned copy of the original network, in the original's mode.
    mask
        Parameter → boolean tensor of the original's shape, true for each weight that is kept.
    curve
        One row per step, the first for the untouched network. Columns: ``step``, ``sparsity``
        (0 … 1), ``left`` (number of prunable parameters that remain), and ``value`` and
        ``protected`` of `prune_module`'s ``evaluate``.
    step
        The number of the step after which the network was ``module``.
    why
        The reason why the pruning ended.
    """

    module: nn.Module = field(repr=False)
    mask: dict[str, Tensor] = field(repr=False)
    curve: pd.DataFrame = field(repr=False)
    step: int
    why: str

    def __str__(self) -> str:
        """Return a summary in three lines: sparsity, evaluation before and after, reason."""
        first, chosen = self.curve.iloc[0], self.curve.iloc[self.step]
        return (
            f"Pruned network: step {self.step} of {len(self.curve) - 1}, sparsity "
            f"{self.sparsity:.1%}\n"
            f"judged by: {chosen['value']:.3f} (before: {first['value']:.3f}); protected: "
            f"{chosen['protected']:.3f} (before: {first['protected']:.3f})\n"
            f"ended: {self.why}"
        )

    @property
    def sparsity(self) -> float:
        """Share of the prunable parameters that are pruned, 0 … 1."""
        return float(self.curve["sparsity"].iloc[self.step])


def prune_module(
    module: nn.Module,
    batches: Batches,
    evaluate: Evaluate,
    *,
    unprivileged: Hashable,
    betas: Mapping[Any, float],
    budget: float,
    share: float = 10,
    limit: float = 60,
    ignore: Collection[str] = (),
    structure: str = "weight",
    example: Any = None,
    recover: Callable[[nn.Module], object] | None = None,
    loss: str | Callable[..., Any] = "cross-entropy",
    estimator: str = "ggn-mc",
    parameters: Collection[str] | None = None,
    forward: Forward | None = None,
    draws: int = 1,
    seed: int = 0,
) -> Pruned:
    """Remove weights that the privileged groups need more than the unprivileged group, in steps.

    Each step recomputes saliency on the batches, as `group_saliency` does, removes the weights of
    least saliency and evaluates the network. The pruning ends at the limit, or once the budget is
    spent. The original network is not changed.

    Parameters
    ----------
    module, unprivileged, betas, loss, estimator, parameters, forward, draws, seed
        As in `group_saliency`. With ``structure="channel"`` the default parameters are all those
        that are removed with a channel.
    batches
        As in `group_saliency`, of training patients; each step reads them once.
    evaluate
        Function of a network in evaluation mode; it returns its value on validation patients,
        larger is better. If it returns one number, the sparsest step within the budget is chosen.
        If it returns a pair ``(value, protected)``, such as the worst group's AUC and the AUC of
        all patients, the step within the budget with the best value is chosen, the first of equals.
    budget
        How far the number, or ``protected`` of a pair, may fall below that of the untouched
        network: .02, or ``math.inf`` for no limit.
    share
        Percent of the remaining parameters that each step removes.
    limit
        The highest sparsity in percent; with whole channels, the last step may stay below it.
    ignore
        Names of modules or parameters that are never pruned.
    structure
        ``"weight"`` sets weights to zero; ``"channel"`` removes whole channels and attention heads
        (torch-pruning), which makes the network smaller.
    example
        Inputs of one or more samples; required for ``"channel"``.
    recover
        Function that fine-tunes a network in place; it is called after each step. Pruned weights
        stay zero.

    Returns
    -------
    Pruned
        The pruned network, with ``mask``, ``curve``, ``step`` and ``why``.

    Raises
    ------
    EvenhandError
        If an argument is out of range, a name is unknown, the batches can be read only once, the
        evaluation of the untouched network is NaN, or a layer cannot be handled.

    Examples
    --------
    >>> network = nn.Sequential(nn.Linear(3, 40), nn.Tanh(), nn.Linear(40, 2))
    >>> batch = (torch.ones(4, 3), [0, 1, 0, 1], ["f", "f", "m", "m"])
    >>> pruned = prune_module(network, [batch], lambda network: 1.0, unprivileged="f",
    ...                       betas={"m": 0.3}, budget=0.01, limit=30)
    >>> round(pruned.sparsity, 6), int((pruned.module[0].weight == 0).sum())
    (0.3, 36)
    """
    require_gradients(module)
    kinds = ("conv", "linear") if structure == "weight" else IN_CHANNELS
    pick("structure", structure, dict.fromkeys(("weight", "channel")))
    _check_functions(evaluate, recover)
    _check_numbers(batches, budget, share, limit)
    if parameters is None:
        parameters = prunable(module, kinds, find_head(module))
    ignored = _ignored(module, ignore)
    names = [name for name in parameters if name not in ignored]
    scoring = make_scoring(
        module, unprivileged, betas, loss, estimator, names, forward, draws, seed
    )
    with torch.inference_mode(False):
        copy = _copied(module)
    if structure == "weight":
        mask = keep_all(copy, scoring.names)
        total = count_kept(mask)
        state = PruningState(copy, mask, total, total)
        remove: Remove[nn.Module] = remove_weights
    else:
        total = sum(parameter.numel() for parameter in copy.parameters())
        state = PruningState(copy, {}, total, total)
        remove = _channel_remover(module, ignore, example, scoring.forward)
    with restore_state(module), torch.inference_mode(False):
        loop = _Loop(scoring, batches, evaluate, budget, recover)
        return loop.run(module, state, remove, Pace(share, limit))


@dataclass(frozen=True, eq=False)
class _Loop:
    """The loop over steps of pruning, with its settings."""

    scoring: Scoring
    batches: Batches
    evaluate: Evaluate
    budget: float
    recover: Callable[[nn.Module], object] | None

    def run(
        self,
        original: nn.Module,
        state: PruningState[nn.Module],
        remove: Remove[nn.Module],
        pace: Pace,
    ) -> Pruned:
        """Prune until the limit or the end of the budget, and return the chosen step."""
        rows = [self._row(0, state)]
        if any(math.isnan(rows[0][name]) for name in ("value", "protected")):
            raise EvenhandError(
                "evaluate= is undefined for the untouched network (it gives NaN). Does some group "
                "lack a class on the validation data?"
            )
        best, winner, why = state, 0, f"the sparsity limit of {pace.limit:g} % was reached"
        for number, step in enumerate(prune_steps(state, self._score, remove, pace), 1):
            if step.left == rows[-1]["left"]:
                why = "no further channel or head can be removed"
                break
            self._recover(step)
            rows.append(self._row(number, step))
            if not self._is_within_budget(rows):
                why = f"the budget of {self.budget:g} was spent"
                break
            if self._is_better(rows[-1], rows[winner]):
                best, winner = step, number
        curve = pd.DataFrame(rows).drop(columns="pair")
        return Pruned(_in_mode_of(original, best), _mask(original, best), curve, winner, why)

    def _score(self, module: nn.Module, number: int) -> Mapping[str, Tensor]:
        with restore_state(module), torch.enable_grad():
            return self.scoring.score(module, self.batches, number)

    def _recover(self, state: PruningState[nn.Module]) -> None:
        if self.recover is not None:
            with freeze_zeros(state.model, state.mask):
                self.recover(state.model)
            apply_mask(state.model, state.mask)

    def _row(self, number: int, state: PruningState[nn.Module]) -> dict[str, Any]:
        """Return the row of the curve for a step, plus whether ``evaluate`` returned a pair."""
        with restore_state(state.model), torch.no_grad():
            state.model.eval()
            measured = self.evaluate(state.model)
        value, protected, pair = _numbers(measured)
        return {
            "step": number,
            "sparsity": state.sparsity,
            "left": state.left,
            "value": value,
            "protected": protected,
            "pair": pair,
        }

    def _is_within_budget(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        lost = rows[0]["protected"] - rows[-1]["protected"]
        return not math.isnan(rows[-1]["value"]) and lost <= self.budget + 1e-12

    def _is_better(self, row: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
        """Whether a step is chosen in place of an earlier one; without a pair, it always is."""
        return not row["pair"] or bool(row["value"] > best["value"])


def _numbers(measured: Any) -> tuple[float, float, bool]:
    """Return ``value``, ``protected``, and whether ``evaluate`` returned a pair."""
    is_list = isinstance(measured, tuple | list) or getattr(measured, "ndim", 0) == 1
    try:
        numbers = [float(number) for number in (measured if is_list else [measured])]
    except (TypeError, ValueError, RuntimeError):
        numbers = []
    if len(numbers) not in (1, 2):
        raise EvenhandError(
            f"evaluate= returns {measured!r:.80}; give one number, or a pair (value, protected)."
        )
    return numbers[0], numbers[-1], len(numbers) == 2


def _check_functions(evaluate: Any, recover: Any) -> None:
    if not callable(evaluate):
        raise EvenhandError(
            f"evaluate={evaluate!r:.60} is no function; give a function of a network that returns "
            "its value on validation patients."
        )
    if recover is not None and not callable(recover):
        raise EvenhandError(
            f"recover={recover!r:.60} is no function; give a function that trains a network."
        )


def _check_numbers(batches: Batches, budget: float, share: float, limit: float) -> None:
    if not 0 < share <= 100 or not 0 < limit < 100:
        raise EvenhandError(
            f"share={share:g}, limit={limit:g}: both are percent; give 0 < share ≤ 100 and "
            "0 < limit < 100."
        )
    if not budget >= 0:
        raise EvenhandError(
            f"budget={budget}: give how far the evaluation may fall, a number ≥ 0 (math.inf: no "
            "limit)."
        )
    if iter(batches) is batches:
        raise EvenhandError(
            "batches= can be read only once, and every step of a pruning reads them. Give a list "
            "or a DataLoader in place of a generator."
        )


def _ignored(module: nn.Module, ignore: Collection[str]) -> set[str]:
    """Return the parameters that ``ignore`` names, either themselves or by a module of theirs."""
    names = [name for name, _ in module.named_parameters()]
    all_names = {*names, *(name for name, _ in module.named_modules() if name)}
    for name in ignore:
        if name not in all_names:
            near = difflib.get_close_matches(name, all_names, n=3)
            meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UnknownNameError(
                f"ignore= names {name!r}; the network has no such module or parameter.{meant}"
            )
    return {name for name in names if any(f"{name}.".startswith(f"{part}.") for part in ignore)}


def _copied(module: nn.Module) -> nn.Module:
    try:
        return deepcopy(module)
    except RuntimeError as error:
        raise EvenhandError(
            f"{type(module).__name__} cannot be copied, and pruning works on a copy: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _channel_remover(
    module: nn.Module, ignore: Collection[str], example: Any, forward: Forward
) -> Remove[nn.Module]:
    """Return the function that removes channels; attentions other than timm's stay whole."""
    if example is None:
        raise EvenhandError(
            'structure="channel" traces the layers on an example: give example=, the inputs of one '
            "sample as the network takes them."
        )
    modules = dict(module.named_modules())
    owners = {name if name in modules else name.rpartition(".")[0] for name in ignore}
    inputs = move_to_device(example, next(module.parameters()).device)
    with restore_state(module), torch.no_grad():
        logits_of(module.eval(), inputs, forward)  # raises if the example itself is wrong
    untouched = (*owners, *unprunable_attentions(module))
    trace = Trace(inputs, find_head(module), untouched, forward)
    return partial(_cut, trace=trace)


def _cut(
    state: PruningState[nn.Module], scores: Mapping[str, Tensor], count: int, *, trace: Trace
) -> PruningState[nn.Module]:
    try:
        with restore_state(state.model):
            narrower = cut_channels(state, scores, count, trace)
        with restore_state(narrower.model), torch.no_grad():
            logits_of(narrower.model.eval(), trace.example, trace.forward)
    except Exception as error:  # whatever torch-pruning or the network raises
        if isinstance(error, EvenhandError) and not isinstance(error, CallError):
            raise
        cause = error.__cause__ or error
        raise EvenhandError(
            f"no channel of {type(state.model).__name__} can be removed: torch-pruning cannot "
            f"follow its layers ({type(cause).__name__}: {_first_line(cause)}).\nName "
            'the modules that it cannot follow with ignore=, or take structure="weight".'
        ) from error
    return narrower


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _in_mode_of(original: nn.Module, state: PruningState[nn.Module]) -> nn.Module:
    for name, part in original.named_modules():
        state.model.get_submodule(name).training = part.training
    return state.model


def _mask(original: nn.Module, state: PruningState[nn.Module]) -> WeightMask:
    """Return the mask of the original network's weights."""
    if not state.origin:
        return dict(state.mask)
    mask = {}
    for name, indices in state.origin.items():
        parameter = original.get_parameter(name)
        mask[name] = torch.zeros(parameter.shape, dtype=torch.bool, device=parameter.device)
        mask[name].view(-1)[indices.flatten().to(parameter.device)] = True
    return mask
