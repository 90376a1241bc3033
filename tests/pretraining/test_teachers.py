"""Teachers, queues and stopped gradients: formulas against numpy in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from evenhand.errors import EvenhandError
from evenhand.pretraining.learners import Encoder, Teacher, momentum_at
from evenhand.pretraining.objectives.byol import byol_loss
from evenhand.pretraining.objectives.moco import LONGEST, info_nce
from evenhand.pretraining.objectives.simsiam import simsiam_loss
from evenhand.pretraining.registry import SSL_OBJECTIVES, register_ssl

TEACHING = ["byol", "moco"]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def plain_encoder(samples=64):
    """A small network of one's own, which is no model of Evenhand's."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.BatchNorm1d(6), nn.ReLU())

    def view(batch, rng):
        return batch + 0.1 * torch.randn(batch.shape, generator=rng)

    return Encoder(network, 6, (3, 4), view, lambda views: views, "series", samples)


def step_on(learner, seed=0):
    rng = torch.Generator().manual_seed(seed)
    loss = learner(*learner.draw(torch.randn(16, 3, 4, generator=rng), rng))
    loss.backward()
    with torch.no_grad():
        for weights in learner.parameters():
            if weights.requires_grad:
                weights -= 0.1 * weights.grad
                weights.grad = None
    return loss


def unit(rows):
    rows = rows.numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.floats(0, 0.999), st.floats(0, 1), st.floats(0, 1))
def test_the_momentum_rises_from_its_start_to_one(start, earlier, later):
    assert momentum_at(start, 0) == pytest.approx(start)
    assert momentum_at(start, 1) == 1
    low, high = sorted((earlier, later))
    assert momentum_at(start, low) <= momentum_at(start, high) + 1e-12
    half = 1 - (1 - start) / 2
    assert momentum_at(start, 0.5) == pytest.approx(half)


@pytest.mark.parametrize("name", TEACHING)
def test_a_teacher_follows_by_the_formula(name):
    learner = SSL_OBJECTIVES[name].with_momentum(0.8).make(plain_encoder()).train()
    student = nn.Sequential(learner.encoder, learner.projector)
    wanted = [weights.detach().double().clone() for weights in student.parameters()]
    for step in (1, 2, 3, 4):
        step_on(learner, step)
        learner.after_step(step / 4)
        m = 1 - 0.2 * (math.cos(math.pi * step / 4) + 1) / 2
        pairs = zip(wanted, student.parameters(), strict=True)
        wanted = [m * before + (1 - m) * now.detach().double() for before, now in pairs]
        for own, value in zip(learner.teacher.parameters(), wanted, strict=True):
            assert torch.allclose(own.double(), value, atol=1e-6)
    before = [own.clone() for own in learner.teacher.parameters()]
    step_on(learner, 9)
    learner.after_step(1.0)  # the momentum is 1 at the end
    assert all(map(torch.equal, before, learner.teacher.parameters()))


@pytest.mark.parametrize("name", TEACHING)
def test_a_teacher_is_not_trained_and_is_no_encoder(name):
    learner = SSL_OBJECTIVES[name].make(plain_encoder()).train()
    before = [own.clone() for own in learner.teacher.parameters()]
    step_on(learner)
    assert all(map(torch.equal, before, learner.teacher.parameters()))
    assert not any(
        own.requires_grad or own.grad is not None for own in learner.teacher.parameters()
    )
    assert not {id(p) for p in learner.teacher.parameters()} & {
        id(p) for p in learner.encoder.parameters()
    }


def test_a_teacher_starts_as_the_student():
    network = plain_encoder().network.eval()
    teacher = Teacher(network, start=0.9).eval()
    views = torch.randn(5, 3, 4)
    assert torch.equal(teacher(views), network(views))


def test_the_loss_of_byol_is_that_of_the_paper():
    p1, p2, t1, t2 = drawn(4, 7, 5).unbind()
    wanted = ((unit(p1) - unit(t2)) ** 2).sum(axis=1) + ((unit(p2) - unit(t1)) ** 2).sum(axis=1)
    assert byol_loss((p1, p2), (t1, t2)).item() == pytest.approx(wanted.mean(), rel=1e-6)
    assert byol_loss((p1, p2), (p2, 3 * p1)).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_of_simsiam_is_that_of_the_paper():
    p1, p2, z1, z2 = drawn(4, 7, 5).unbind()
    cosines = (unit(p1) * unit(z2)).sum(axis=1) + (unit(p2) * unit(z1)).sum(axis=1)
    assert simsiam_loss((p1, p2), (z1, z2)).item() == pytest.approx(-cosines.mean() / 2, rel=1e-6)


def test_simsiam_stops_the_gradient_of_what_is_predicted():
    p1, p2, z1, z2 = (item.requires_grad_() for item in drawn(4, 7, 5).clone().unbind())
    simsiam_loss((p1, p2), (z1, z2)).backward()
    assert z1.grad is None
    assert z2.grad is None
    assert p1.grad.abs().sum() > 0


def test_the_loss_of_moco_is_that_of_the_paper():
    queries, keys, queue = drawn(6, 5), drawn(6, 5, seed=1), drawn(9, 5, seed=2)
    queue = torch.nn.functional.normalize(queue, dim=1).float()
    for temperature in (0.07, 0.2, 1.0):
        own = (unit(queries) * unit(keys)).sum(axis=1) / temperature
        others = unit(queries) @ queue.numpy().T / temperature
        total = np.exp(own) + np.exp(others).sum(axis=1)
        value = info_nce(queries, keys, queue, temperature).item()
        assert value == pytest.approx(-(own - np.log(total)).mean(), rel=1e-4)


def test_a_lower_temperature_of_moco_weighs_the_likest_keys_more():
    query, key = drawn(1, 5), drawn(1, 5, seed=1)
    queue = torch.nn.functional.normalize(drawn(9, 5, seed=2).float(), dim=1)

    def shares(temperature):
        near = queue.clone().requires_grad_()
        info_nce(query, key, near, temperature).backward()
        pull = near.grad.norm(dim=1)
        return (pull.max() / pull.sum()).item()

    assert shares(0.05) > shares(0.2) > shares(1.0)


def test_the_oldest_keys_leave_the_queue_first():
    learner = SSL_OBJECTIVES["moco"].make(plain_encoder(samples=20))  # ten places
    keys = torch.arange(1.0, 14.0)[:, None].expand(-1, 128)

    def held():
        return learner.queue[:, 0].tolist()

    learner.enqueue(keys[:4])
    assert held()[:4] == [1, 2, 3, 4]
    learner.enqueue(keys[4:8])
    learner.enqueue(keys[8:])  # five of them: two end the queue, three begin it again
    assert held() == [11, 12, 13, 4, 5, 6, 7, 8, 9, 10]
    assert int(learner.place) == 3
    learner.enqueue(torch.arange(20.0, 33.0)[:, None].expand(-1, 128))  # more than it holds
    assert sorted(held()) == [*range(23, 33)]


def test_the_queue_is_filled_by_training_alone_and_shorter_than_the_data():
    learner = SSL_OBJECTIVES["moco"].make(plain_encoder(samples=40)).train()
    assert learner.queue.shape == (20, 128)
    long = SSL_OBJECTIVES["moco"].make(plain_encoder(samples=10**6))
    assert len(long.queue) == LONGEST
    before = learner.queue.clone()
    rng = torch.Generator().manual_seed(0)
    views = learner.draw(torch.randn(16, 3, 4, generator=rng), rng)
    learner.eval()(*views)
    learner.after_step(0.5)
    assert torch.equal(learner.queue, before)
    learner.train()(*views)
    learner.after_step(0.5)
    assert not torch.equal(learner.queue[:16], before[:16])
    assert torch.equal(learner.queue[16:], before[16:])
    assert torch.allclose(learner.queue.norm(dim=1), torch.ones(20), atol=1e-5)


@pytest.mark.parametrize("keywords", [{"needs": ("teacher",)}, {"momentum": 0.9}])
def test_a_teacher_has_a_schedule_and_a_schedule_a_teacher(keywords):
    with pytest.raises(EvenhandError, match="a teacher needs a momentum"):
        register_ssl("unsaid", widths=(4,), **keywords)


def test_a_teacher_moves():
    with pytest.raises(EvenhandError, match="the teacher would never change"):
        register_ssl("still", widths=(4,), needs=("teacher",), momentum=1.0)
    with pytest.raises(EvenhandError, match=r"momentum is -0\.1"):
        SSL_OBJECTIVES["byol"].with_momentum(-0.1)
    with pytest.raises(EvenhandError, match=r"simclr has no teacher.*one of .*byol"):
        SSL_OBJECTIVES["simclr"].with_momentum(0.9)


def test_an_objective_for_samples_of_another_kind_says_which_there_are():
    images = replace(SSL_OBJECTIVES["byol"], modality="images")
    with pytest.raises(EvenhandError, match=r"is for images, and the samples are series.*simclr"):
        images.make(plain_encoder())
