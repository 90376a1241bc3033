"""Views: drawn per sample and per view, from a seed, and only of what was observed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evenhand.pretraining.views import series as parts
from evenhand.pretraining.views import view_images, view_series

COUNT = 400


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(view) -> torch.Tensor:
    if view is view_images:
        return torch.rand(COUNT, 3, 12, 12, generator=seeded(9))
    return torch.randn(COUNT, 3, 24, generator=seeded(9))


@pytest.fixture(params=[view_series, view_images])
def view(request):
    return request.param


def same(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Which samples are the same in both, ``(B,)``."""
    return ((first == second) | (first.isnan() & second.isnan())).flatten(1).all(dim=1)


def test_views_differ_from_each_other_and_from_the_input(view):
    batch, rng = samples(view), seeded()
    first, second = view(batch, rng), view(batch, rng)
    assert first.shape == batch.shape
    assert same(first, second).float().mean() < 0.02
    assert same(first, batch).float().mean() < 0.02


def test_views_depend_on_the_seed_alone(view):
    batch = samples(view)
    assert same(view(batch, seeded(3)), view(batch, seeded(3))).all()
    assert not same(view(batch, seeded(3)), view(batch, seeded(4))).any()


def test_each_sample_is_drawn_on_its_own(view):
    batch = samples(view)[:1].expand(COUNT, *samples(view).shape[1:])
    views = view(batch, seeded())
    assert len({tuple(item.flatten().nan_to_num(9).tolist()) for item in views}) > 0.98 * COUNT


def test_a_value_that_was_not_observed_is_never_made_up():
    never = torch.randn(COUNT, 3, 24, generator=seeded())
    never[:, 1] = torch.nan
    assert view_series(never, seeded())[:, 1].isnan().all()


def test_each_channel_has_a_scale_and_negation_is_not_for_all():
    factor, spread = parts.draw_scale_and_noise(COUNT, 3, seeded())
    signs = factor.sign()
    assert torch.equal(signs, signs[:, :1].expand(-1, 3))  # the whole series is turned over
    assert 0.1 < (signs[:, 0] < 0).float().mean() < 0.3
    scaled = factor.abs()
    assert 0.4 < (scaled != 1).all(dim=1).float().mean() < 0.6
    assert (scaled[:, 0] - scaled[:, 1]).abs().max() > 0.1
    assert 0 <= spread.min() < spread.max() <= parts.JITTER


def test_masking_hides_one_span_of_time_and_whole_channels():
    spans, dropped = parts.draw_masks(COUNT, 24, 3, seeded())
    assert 0.1 < dropped.float().mean() < 0.2
    assert spans.long().diff(dim=1).abs().sum(dim=1).max() <= 2  # it begins once and ends once
    assert spans.sum(dim=1).max() <= round(parts.LONGEST_MASK * 24) + 1
    assert 0.3 < spans.any(dim=1).float().mean() < 0.6


def test_what_is_hidden_counts_as_not_observed():
    hidden = view_series(torch.zeros(COUNT, 3, 24), seeded()).isnan()
    dropped = hidden.all(dim=2)
    assert 0.1 < dropped.float().mean() < 0.2
    spans = hidden.all(dim=1)
    assert 0.3 < spans[~dropped.all(dim=1)].any(dim=1).float().mean() < 0.6
    assert torch.equal(hidden, dropped[:, :, None] | spans[:, None, :])


def test_noise_is_of_each_value_and_scale_of_each_channel(monkeypatch):
    monkeypatch.setattr(parts, "OFTEN", 0.0)
    monkeypatch.setattr(parts, "SELDOM", 0.0)
    monkeypatch.setattr(parts, "DROPPED_CHANNELS", 0.0)
    noise = view_series(torch.zeros(COUNT, 3, 24), seeded())
    assert abs(noise.mean()) < 0.01
    # Its standard deviation is uniform up to JITTER, so that the mean square is a third of that's.
    assert noise.square().mean() == pytest.approx(parts.JITTER**2 / 3, rel=0.1)
    together = torch.corrcoef(noise[:, :, :2].reshape(COUNT, 6).T)
    assert (together - torch.eye(6)).abs().max() < 0.25


@settings(max_examples=30)
@given(st.integers(4, 60), st.integers(0, 99))
def test_steps_lie_within_the_series(length, seed):
    steps = parts._steps(8, length, seeded(seed))
    assert steps.shape == (8, length)
    assert steps.min() >= 0
    assert steps.max() < length


def test_crop_and_warp_keep_the_order_of_time():
    place = torch.linspace(0, 1, 24).expand(COUNT, 24)
    moved = parts.warp_time(parts.crop_time(place, seeded()), seeded(1))
    assert (moved.diff(dim=1) > 0).all()
    assert not torch.equal(moved, place)


def test_permutation_keeps_every_step_where_segments_are_equal():
    place = torch.linspace(0, 1, 24).expand(COUNT, 24)
    moved = parts.permute_segments(place, seeded())
    assert torch.equal(moved.sort(dim=1).values, place)
    changed = (moved != place).any(dim=1).float().mean()
    assert 0.1 < changed < 0.3


def test_images_stay_images():
    views = view_images(samples(view_images), seeded())
    assert views.min() >= 0
    assert views.max() <= 1 + 1e-5
    grey = (views.max(dim=1).values - views.min(dim=1).values).flatten(1).max(dim=1).values < 1e-6
    assert 0.1 < grey.float().mean() < 0.3
