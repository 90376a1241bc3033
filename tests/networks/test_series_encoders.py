"""Contract of every encoder of series: what it reads and returns, what a mask changes in it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from evenhand import build_model, register_backbone
from evenhand.errors import EvenhandError
from evenhand.masks.masks import full_mask, set_trainable, train_mode
from evenhand.masks.strategies import find_strategy
from evenhand.masks.truncate import activations_at, truncate_at
from evenhand.masks.units import default_family, families, parts
from evenhand.networks.encoders.gru import FadingInput, Recurrence
from evenhand.networks.encoders.layers import hold_last, steps_since_seen
from evenhand.networks.export import check_answers, to_onnx
from evenhand.networks.inputs import SeriesInputs
from evenhand.networks.layers import layer_names, record_activations
from evenhand.networks.registry import SERIES_ENCODERS
from evenhand.pruning.curvature.check import check_squares
from evenhand.pruning.loop import prunable

NAN = float("nan")
STEPS, CLASSES = 13, ("well", "sick")  # no multiple of a patch
ENCODERS = tuple(SERIES_ENCODERS)
every_encoder = pytest.mark.parametrize("name", ENCODERS)


def inputs_of(steps=STEPS, channels=("a", "b", "c")) -> SeriesInputs:
    count = len(channels)
    return SeriesInputs(steps=steps, channels=channels, mean=(0.0,) * count, std=(1.0,) * count)


def model_of(name, **more):
    return build_model(name, "none", inputs_of(**more), CLASSES, seed=0)


def series_with_gaps(count=6, steps=STEPS, seed=0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    series = torch.randn(count, 3, steps, generator=rng)
    return series.masked_fill(torch.rand(series.shape, generator=rng) < 0.6, NAN)


def test_the_encoders_are_those_of_the_folder():
    assert {"conv1d", "gru", "patch_transformer"} <= set(ENCODERS)


@every_encoder
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 48])
def test_any_number_of_steps_gives_features_of_the_declared_width(name, steps):
    model = model_of(name, steps=steps).eval()
    features = model.features(series_with_gaps(4, steps))
    assert features.shape == (4, model.backbone.head_hidden_size)
    assert features.isfinite().all()


@every_encoder
@pytest.mark.parametrize("training", [False, True])
def test_a_series_without_any_observation_gives_finite_scores_and_gradients(name, training):
    model = model_of(name).train(training)
    series = series_with_gaps()
    series[2:4] = NAN
    scores = model(series)
    scores.sum().backward()
    assert scores.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_encoder
def test_a_sample_is_scored_alike_alone_and_in_a_batch(name):
    model, series = model_of(name).eval(), series_with_gaps()
    alone = torch.cat([model(series[None]) for series in series])
    torch.testing.assert_close(model(series), alone, rtol=1e-4, atol=1e-5)


@every_encoder
def test_a_gap_is_told_from_the_mean(name):
    model = model_of(name).eval()
    mean, gap = (torch.full((1, 3, STEPS), value) for value in (0.0, NAN))
    assert not torch.allclose(model.features(mean), model.features(gap))


@every_encoder
def test_a_gradient_reaches_every_number_of_every_parameter(name):
    model = model_of(name).eval()  # nothing drops out
    for seed in range(8):
        model(series_with_gaps(32, seed=seed)).square().sum().backward()
    lacking = [
        key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()
    ]
    assert lacking == []


@every_encoder
@pytest.mark.parametrize("strategy", ["head", "last-1", "last-2", "frozen1m", "bitfit", "random:3"])
def test_a_step_changes_what_the_mask_names_and_nothing_else(name, strategy):
    model, schedule = find_strategy(strategy)(model_of(name), 0)
    chosen = {id(p) for p in named(model, schedule(0)).values()}
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    set_trainable(model, schedule(0))
    train_mode(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for seed in range(3):
        model(series_with_gaps(16, seed=seed))[:, 1].exp().sum().backward()
    optimizer.step()
    for key, parameter in model.backbone.named_parameters():
        same = torch.equal(parameter, before[f"backbone.{key}"])
        assert same == (id(parameter) not in chosen), key


def named(model, mask) -> dict[str, nn.Parameter]:
    from evenhand.masks.masks import find_units

    return {n: p for unit in find_units(model.backbone, mask) for n, p in unit.named.items()}


@every_encoder
def test_what_is_frozen_drops_nothing_out(name):
    model = model_of(name)
    set_trainable(model, frozenset())
    train_mode(model)
    series = series_with_gaps()
    assert torch.equal(model.features(series), model.features(series))
    set_trainable(model, full_mask(model.backbone))
    train_mode(model)
    assert not torch.equal(model.features(series), model.features(series))


@every_encoder
def test_a_frozen_prefix_is_cut_off_exactly(name):
    model = model_of(name).eval()
    backbone = model.backbone
    sample = model.backbone_inputs(model.scale(series_with_gaps()))
    for depth in sorted({unit.depth for unit in parts(backbone)} - {0, 1}):
        set_trainable(model, frozenset(u.name for u in parts(backbone) if u.depth >= depth))
        truncation = truncate_at(backbone, depth, sample)
        assert truncation is not None
        assert truncation.depth == depth
        activations = activations_at(backbone, backbone, depth, sample)
        torch.testing.assert_close(truncation.upper(activations), backbone(sample))


@every_encoder
def test_the_units_hold_every_parameter_once(name):
    backbone = model_of(name).backbone
    held = [key for unit in parts(backbone) for key in unit.names]
    assert sorted(held) == sorted(key for key, _ in backbone.named_parameters())


@every_encoder
def test_onnx_says_the_same(name, tmp_path):
    pytest.importorskip("onnxruntime")
    model = model_of(name)
    assert check_answers(model, to_onnx(model, tmp_path / "model.onnx")) < 1e-4


@every_encoder
def test_the_layers_can_be_read(name):
    model = model_of(name).eval()
    names = layer_names(model.backbone)
    with record_activations(model, names, "auto") as flat:
        model.features(series_with_gaps())
    with record_activations(model, names, "mean") as mean:
        model.features(series_with_gaps())
    assert len(names) >= 3
    assert all(len(rows) == 6 and rows.ndim == 2 for rows in flat.values())
    assert all(mean[key].shape[1] < flat[key].shape[1] for key in names[:-1])


@every_encoder
def test_weights_of_another_encoder_are_refused(name, tmp_path):
    from evenhand import save_model

    other = next(own for own in ENCODERS if own != name)
    save_model(tmp_path, model_of(other))
    file = str(tmp_path / "model.safetensors")
    with pytest.raises(EvenhandError, match=f"model.safetensors does not fit {name}: .* differ"):
        build_model(name, file, inputs_of(), CLASSES, seed=0)
    with pytest.raises(EvenhandError, match="that model takes 3 channels"):
        build_model(other, file, inputs_of(channels=("a", "b")), CLASSES, seed=0)


def test_a_transformer_for_another_length_is_refused(tmp_path):
    from evenhand import save_model

    save_model(tmp_path, model_of("patch_transformer"))
    with pytest.raises(EvenhandError, match=r"patch_embed\.position is"):
        build_model(
            "patch_transformer",
            str(tmp_path / "model.safetensors"),
            inputs_of(steps=48),
            CLASSES,
            seed=0,
        )


@pytest.mark.parametrize(
    ("name", "strategy", "message"),
    [
        ("gru", "attention", "strategy 'attention': gru has no attention blocks"),
        ("gru", "layernorm", "strategy 'layernorm': gru has no norm layers"),
        ("gru", "lora", "strategy 'lora': gru has no attention blocks with linear projections"),
        ("gru", "last-4", "K is a whole number from 1 to 3"),
    ],
)
def test_strategies_that_make_no_sense_are_refused_by_name(name, strategy, message):
    if strategy == "lora":
        pytest.importorskip("peft")
    with pytest.raises(EvenhandError, match=message):
        find_strategy(strategy)(model_of(name), 0)[1](0)


@pytest.mark.parametrize("strategy", ["attention", "layernorm", "mlp", "norm-attn-mlp", "lora"])
def test_the_transformer_has_the_units_of_a_vit(strategy):
    if strategy == "lora":
        pytest.importorskip("peft")
    model, schedule = find_strategy(strategy)(model_of("patch_transformer"), 0)
    assert named(model, schedule(0))
    assert default_family(model.backbone).name == "norm-attn-mlp"


def test_the_units_of_the_gru():
    backbone = model_of("gru").backbone
    assert [unit.name for unit in parts(backbone)] == ["input", "recurrence", "summary"]
    assert list(families(backbone)) == ["parts"]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=9))
def test_time_since_seen_is_the_distance_to_the_last_observation(rows):
    observed = torch.tensor(rows, dtype=torch.float32).T[None]  # (1, 4, T)
    since = steps_since_seen(observed)[0]
    for variable, seen in enumerate(zip(*rows, strict=True)):
        for step in range(len(rows)):
            last = max((k for k in range(step + 1) if seen[k]), default=-1)
            assert since[variable, step] == step - last


def test_the_recurrence_is_that_of_torch():
    recurrence = Recurrence().double()
    width = recurrence.state.in_features
    torch_gru = nn.GRU(width, width, batch_first=True).double()
    own = (recurrence.step.weight, recurrence.state.weight, recurrence.step.bias)
    with torch.no_grad():
        for parameter, value in zip(
            torch_gru.parameters(), (*own, recurrence.state.bias), strict=True
        ):
            parameter.copy_(value)
    steps = torch.randn(3, 7, width, dtype=torch.double)
    torch.testing.assert_close(recurrence(steps), torch_gru(steps)[0])


def test_a_value_fades_to_the_mean_while_it_is_not_seen():
    layer = FadingInput(1).eval()
    with torch.no_grad():
        layer.embed.weight.zero_()[0, 0] = 1.0
        layer.embed.bias.zero_()
    read = layer(hold_last(torch.tensor([[[NAN, 2.0, NAN, NAN, 1.0]]])))[0, :, 0]
    rate = nn.functional.softplus(layer.fading.detach())[0]
    expected = [0.0, 2.0, 2.0 * torch.exp(-rate), 2.0 * torch.exp(-2 * rate), 1.0]
    assert read.tolist() == pytest.approx([float(value) for value in expected])


def test_a_name_of_an_encoder_is_taken():
    with pytest.raises(EvenhandError, match="backbone 'gru' is Evenhand's own encoder of series"):
        register_backbone("gru", lambda: nn.Identity())


@every_encoder
def test_squared_gradients_by_sample_are_those_of_autograd(name):
    model = model_of(name)
    check_squares(model, series_with_gaps(2), prunable(model, ("conv", "linear", "head", "bias")))
