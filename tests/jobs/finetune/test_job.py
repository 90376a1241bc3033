"""One strategy, one fit: the same again, another seed, and going on after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.data import tiny

from evenhand import EvenhandError, FinetuneSettings, find_target, load_model, read_predictions
from evenhand.experiments.forecast import seconds_per_fit
from evenhand.experiments.task import prepare_task
from evenhand.files import read_json
from evenhand.jobs.finetune.job import finetune, model_name
from evenhand.metrics import groups_of
from evenhand.networks.model import Model
from evenhand.tables.attributes import UNKNOWN


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return FinetuneSettings(
        data="phantom:patients=160,size=32,seed=1",
        attribute=("group",),
        backbone="test_vit",
        weights="none",
        image_size=32,
        batch_size=32,
        epochs=2,
        lr=1e-3,
        device="cpu",
        target=("auc_worst",),
        cache=tmp_path_factory.mktemp("cache"),
    )


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    return finetune(base, tmp_path_factory.mktemp("runs") / "first")


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(base, run, tmp_path):
    again = finetune(base, tmp_path / "again")
    other = finetune(base.model_copy(update={"seed": 1}), tmp_path / "other")
    bytes_of = [result.predictions_file("full").read_bytes() for result in (run, again, other)]
    assert bytes_of[0] == bytes_of[1]
    assert bytes_of[0] != bytes_of[2]


def test_the_kept_value_is_the_objective_of_the_validation_rows(run):
    rows = read_predictions(run.predictions_file("full")).of_split("val")
    groups = {"group": groups_of(rows.group("group").cat.remove_categories([UNKNOWN]))}
    value = find_target("auc_worst").value(rows.labels, rows.scores, groups)
    val = read_json(run.folder("full") / "model.json")["val"]
    assert val == {"auc_worst": pytest.approx(value, abs=1e-12)}


def test_units_that_had_not_thawed_when_the_best_epoch_ended_are_not_named(
    base, tmp_path, monkeypatch
):
    values = iter([0.6, 0.9, 0.1])  # of each epoch
    monkeypatch.setattr("evenhand.experiments.task.Task.values", lambda *arguments: (next(values),))
    settings = base.model_copy(update={"strategy": "gradual", "epochs": 6, "patience": 1})
    result = finetune(settings, tmp_path / "run")
    model = read_json(result.folder("gradual") / "model.json")
    assert model["val"] == {"auc_worst": 0.9}
    assert {name.rpartition(".")[0] for name in model["mask"]} == {"blocks.5", ""}  # "": last norm
    assert {unit["name"] for unit in model["units"] if unit["tuned"]} == set(model["mask"])


def test_splits_and_predictions_are_of_the_same_samples(run):
    splits = pd.read_csv(run.root / "splits.csv", dtype="str").set_index("sample_id")["split"]
    table = pd.read_parquet(run.predictions_file("full")).set_index("sample_id")
    assert table["split"].sort_index().to_dict() == splits.sort_index().to_dict()


def test_only_what_the_strategy_names_has_changed(base, tmp_path):
    settings = base.model_copy(update={"strategy": "blocks.1.attn", "epochs": 1})
    result = finetune(settings, tmp_path / "run")
    before = prepare_task(settings).model().state_dict()
    after = load_model(result.folder("units-blocks.1.attn")).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("blocks.1.attn" in name for name in changed)
    assert all("blocks.1.attn" in name or "head" in name for name in changed)
    units = read_json(result.folder("units-blocks.1.attn") / "model.json")["units"]
    tuned = [unit["name"] for unit in units if unit["tuned"]]
    assert tuned == ["blocks.1.attn"]


def test_a_killed_run_keeps_its_model_and_finishes(base, run, tmp_path, monkeypatch):
    def killed(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("evenhand.jobs.finetune.job.evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            finetune(base, tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("evenhand.jobs.finetune.job.train_model", killed)  # must not train again
        done = finetune(base, tmp_path / "run")
    assert done.finished
    same = (run.root / "metrics.json").read_bytes()
    assert (done.root / "metrics.json").read_bytes() == same


def test_a_run_may_start_from_another_but_not_replace_it(base, run, tmp_path):
    settings = base.model_copy(update={"weights": str(run.root), "strategy": "head", "epochs": 1})
    with pytest.raises(EvenhandError, match="cannot be or lie in the run's own folder"):
        finetune(settings, run.root, overwrite=True)
    result = finetune(settings, tmp_path / "head")
    first, second = (
        load_model(item.folder(name)).backbone.state_dict()
        for item, name in ((run, "full"), (result, "head"))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_word_none_is_no_folder(base, run, tmp_path, monkeypatch):
    shutil.copytree(run.root, tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    other = base.model_copy(update={"seed": 7, "epochs": 1})
    assert finetune(other, Path("none"), overwrite=True).record.seed == 7


def test_a_file_of_a_run_s_model_is_known_to_be_of_that_run(base, run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.root / "models")
    settings = base.model_copy(update={"weights": "full/model.safetensors", "epochs": 1})
    with pytest.raises(EvenhandError, match="cannot be or lie in the run's own folder"):
        finetune(settings, run.root, overwrite=True)
    with pytest.raises(EvenhandError, match=rf"trained on .* --exclude-patients {run.root}\."):
        finetune(settings.model_copy(update={"seed": 7}), tmp_path / "out")


def test_patients_of_an_earlier_run_are_kept_out(base, tmp_path):
    shared = base.model_copy(update={"patient_share": 0.4, "epochs": 1, "target": ("auc",)})
    earlier = finetune(shared, tmp_path / "earlier")
    update = {"exclude_patients": (earlier.root,), "epochs": 1}
    task = prepare_task(base.model_copy(update=update))
    seen = set(pd.read_csv(earlier.root / "splits.csv", dtype="str")["patient_id"])
    left = np.concatenate([part.table["patient_id"] for _, part in task.splits.items()])
    assert len(left) == 160 - len(seen)
    assert not seen & set(left)


def test_the_bound_is_a_worse_value_of_the_same_scores(base):
    task = prepare_task(base)
    bound = prepare_task(base.model_copy(update={"pessimistic": True}))
    rng = np.random.default_rng(0)
    labels = task.splits.val.labels
    score = (labels + rng.normal(0, 1, len(labels)) + 4) / 9
    scores = np.stack([1 - score, score], axis=1)
    assert bound.values(scores)[0] < task.values(scores)[0]


def test_a_bound_that_resamples_cannot_give_is_refused(base):
    few = {"data": "phantom:patients=40,size=32,minority=0.15,prevalence=0.2,seed=1"}
    settings = base.model_copy(update=few | {"pessimistic": True, "split": (0.5, 0.25, 0.25)})
    with pytest.raises(EvenhandError, match=r"--pessimistic: auc_worst has no interval|undefined"):
        prepare_task(settings)


def test_several_objectives_are_all_kept_and_the_first_decides_when_to_stop(base, tmp_path):
    goals = ("auc", "auc_worst:group")
    result = finetune(base.model_copy(update={"target": goals, "epochs": 1}), tmp_path / "run")
    assert tuple(read_json(result.folder("full") / "model.json")["val"]) == goals


@pytest.mark.parametrize(("name", "copy"), [("table", shutil.copy2), ("oasis1", shutil.copy)])
def test_weights_that_saw_the_test_patients_are_known_where_the_data_were_moved(
    base, tmp_path, name, copy
):
    data = tiny(name, tmp_path / "data").model_dump(exclude_unset=True)
    data["attribute"] = data.get("attribute", ("sex",))
    small = base.model_dump(include={"backbone", "weights", "image_size", "device", "cache"})
    settings = FinetuneSettings(**data, **small, epochs=1, target=("overall_acc",))
    run = finetune(settings, tmp_path / "run")
    shutil.copytree(tmp_path / "data", tmp_path / "moved", copy_function=copy)
    moved = settings.data.replace(str(tmp_path / "data"), str(tmp_path / "moved"))
    assert moved != settings.data
    again = {"data": moved, "weights": str(run.root), "seed": 7}
    with pytest.raises(EvenhandError, match="patients of the validation and test split"):
        finetune(settings.model_copy(update=again), tmp_path / "again")


def test_a_forecast_is_measured_in_the_precision_and_on_the_device_of_the_fits(base, monkeypatch):
    passes = []

    def watched(self, inputs, rest=None):
        passes.append((inputs.device.type, torch.is_autocast_enabled("cpu")))
        return forward(self, inputs, rest)

    task, forward = prepare_task(base.model_copy(update={"precision": "bf16"})), Model.forward
    monkeypatch.setattr(Model, "forward", watched)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)  # to wait for it would raise
    assert seconds_per_fit(task) > 0
    assert passes == [("cpu", True)] * 4


@pytest.mark.parametrize(("products", "expected"), [(1000, "bf16"), (10, "fp32")])
def test_a_run_keeps_the_precision_that_was_chosen(base, tmp_path, monkeypatch, products, expected):
    monkeypatch.setattr("evenhand.training.device.multiplies_half", lambda: True)
    monkeypatch.setattr(
        "evenhand.training.device.products_per_value", lambda network, inputs: products
    )
    auto = base.model_copy(update={"precision": "auto", "epochs": 1})
    built = finetune(auto, tmp_path / "run")
    assert built.record.settings.precision == expected


def test_a_list_of_many_units_has_a_short_name_of_its_own():
    units = [f"blocks.{block}.attn" for block in range(12)]
    first, other = model_name(",".join(units)), model_name(",".join([*units[:-1], "blocks.11.mlp"]))
    assert first == model_name(",".join(reversed(units)))
    assert first != other
    assert all(name.startswith("units-blocks.0.attn+11-more-") for name in (first, other))
