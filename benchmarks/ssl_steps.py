"""Measure the cost of a step of each SSL objective beside the passes of its networks.

The passes are those of encoder, heads and teacher, forward and, if they are trained, backward;
views are drawn before. A step adds the loss, its gradient, AdamW, the update of the teacher and the
queue. Both run alternately in one process with one thread, and are measured by CPU time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from evenhand.networks.inputs import SeriesInputs
from evenhand.networks.model import build_model
from evenhand.pretraining.learners import Encoder, Learner, LearnerBatch
from evenhand.pretraining.registry import SSL_OBJECTIVES

STEPS, CHANNELS = 48, 37
BATCH = {"series": 256, "images": 64}
SIZE = 64  # pixels
GOAL = 1.15
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--objective", action="append", choices=[*SSL_OBJECTIVES.titles()])
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.objective or SSL_OBJECTIVES.titles():
        for network in networks(name):
            print(json.dumps(measure(name, network, args.repeats)), flush=True)


def networks(name: str) -> tuple[str, ...]:
    """Return the networks on which an objective is measured."""
    modality = SSL_OBJECTIVES[name].modality
    images = ("vit_tiny_patch16_224",) if name == "mae" else ("resnet18",)
    return (() if modality == "images" else ("conv1d",)) + (() if modality == "series" else images)


def measure(name: str, network: str, repeats: int) -> dict[str, object]:
    """Return the claim: the median of paired ratios."""
    learner, batch = learner_on(name, network)
    optimizer = torch.optim.AdamW(
        [weights for weights in learner.parameters() if weights.requires_grad], fused=True
    )

    def step() -> None:
        learner(*batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step(0.5)

    def alone() -> None:
        passes(learner, batch)
        optimizer.zero_grad()

    count = calls_a_second(alone)
    pairs = [(seconds(step, count), seconds(alone, count)) for _ in range(repeats)]
    ratios = sorted(whole / bare for whole, bare in pairs)
    detail = {
        "ratios": [round(ratio, 3) for ratio in ratios],
        "ms_per_step": round(1e3 * statistics.median(whole for whole, _ in pairs) / count, 1),
        "batch": BATCH["series" if network == "conv1d" else "images"],
    }
    ratio = round(statistics.median(ratios), 3)
    claim = f"ssl_step_{name}_{network}"
    return {"name": claim, "ratio": ratio, "better": "lower", "goal": GOAL, "detail": detail}


def learner_on(name: str, network: str) -> tuple[Learner, LearnerBatch]:
    """Return an objective on a network, and a batch with its views drawn."""
    rng = torch.Generator().manual_seed(SEED)
    if network == "conv1d":
        zeros, ones = (0.0,) * CHANNELS, (1.0,) * CHANNELS
        channels = tuple(f"c{number}" for number in range(CHANNELS))
        inputs = SeriesInputs(steps=STEPS, channels=channels, mean=zeros, std=ones)
        samples = torch.randn(BATCH["series"], CHANNELS, STEPS, generator=rng)
        samples[torch.rand(samples.shape, generator=rng) < 0.7] = torch.nan
        model = build_model(network, "none", inputs, ("no", "yes"), SEED)
    else:
        samples = torch.rand(BATCH["images"], 3, SIZE, SIZE, generator=rng)
        model = build_model(network, "none", SIZE, ("no", "yes"), SEED)
    learner = SSL_OBJECTIVES[name].make(Encoder.of_model(model, samples=4096)).train()
    return learner, learner.draw(samples, rng)


def passes(learner: Learner, batch: LearnerBatch) -> None:
    """Run the networks of a step forward and backward, with a trivial loss."""
    outputs(learner, batch).square().mean().backward()


def outputs(learner: Learner, batch: LearnerBatch) -> Tensor:
    """Return the outputs of the networks of a step, with the teacher's, for a batch."""
    inputs, *others = batch
    if learner.objective.name == "mae":
        seen = others[0][:, : learner.visible_count]  # type: ignore[index]
        predicted: Tensor = learner.decoder(learner.encode(inputs, seen), seen)  # type: ignore[operator]
        return predicted
    if learner.objective.name == "masked":
        restored: Tensor = learner.restore(learner.embed(inputs))  # type: ignore[operator]
        return restored
    asymmetric = "queue" in learner.objective.needs
    student, taught = inputs.chunk(2) if asymmetric else (inputs, inputs)
    if "teacher" in learner.objective.needs:
        learner.teacher(taught)  # type: ignore[operator]
    out = learner.embed(student)
    if "predictor" in learner.objective.needs:
        out = learner.predictor(out)  # type: ignore[operator]
    return out


def calls_a_second(work: Callable[[], None]) -> int:
    """Return the number of calls that take about a second of CPU time."""
    work()
    return max(2, round(1 / max(seconds(work, 1), 1e-3)))


def seconds(work: Callable[[], None], count: int) -> float:
    """Return the CPU time of this number of calls."""
    start = time.process_time()
    for _ in range(count):
        work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
