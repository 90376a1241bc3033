"""Who is who and what wins by the settings, and what is read back from a run and from an export."""

from __future__ import annotations

import html
import shutil

import pandas as pd
import pytest
import torch
from optuna.trial import FixedTrial
from tests.command import evenhand

from evenhand import load_model
from evenhand.errors import EvenhandError
from evenhand.files import read_json, write_json
from evenhand.jobs.evaluate import pruning_of
from evenhand.jobs.prune import job
from evenhand.jobs.prune.job import prune, pruning_space
from evenhand.jobs.prune.loop import initial_state, step_saliency
from evenhand.jobs.prune.premise import check_premise, first_saliency
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.prune.task import make_prune_task
from evenhand.jobs.report import write_card
from evenhand.metrics import Bootstrap
from evenhand.networks.export import from_safetensors
from evenhand.networks.model import Model
from evenhand.reporting.sections.luck import luck_sentences
from evenhand.tables.predictions import read_predictions, write_predictions
from evenhand.training.predict import predict_cohorts

QUICK = {"share": 25, "limit": 25, "batches": 1, "budget": None, "target": "log_loss_gap"}


def settings(trained, cache, **changes) -> PruneSettings:
    inputs = {"run": trained, "attribute": ("group",), "cache": cache, "device": "cpu"}
    return PruneSettings(**inputs | QUICK | changes)


def test_the_metric_of_the_ranking_says_who_is_unprivileged(trained, cache):
    result = []
    for metric in ("auc", "sensitivity"):
        task = make_prune_task(settings(trained, cache, rank_by=metric))
        values = {task.before[f"{metric}:{group}"]: group for group in task.positions}
        result.append(task.roles.unprivileged)
        assert result[-1] == values[min(values)]
    assert result[0] != result[1]


@pytest.mark.parametrize(
    ("change", "groups"),
    [
        ({}, ("minority*female", "majority*female", "majority*male", "minority*male")),
        ({"privileged": ("majority*male",)}, ("minority*female", "majority*male")),
        (
            {"exclude_group": ("group*sex=minority*female",)},
            ("minority*male", "majority*female", "majority*male"),
        ),
    ],
    ids=str,
)
def test_who_takes_part(trained, cache, change, groups):
    task = make_prune_task(settings(trained, cache, attribute=("group*sex",), **change))
    assert task.roles.groups == groups
    assert set(task.positions) == set(groups)  # saliency is computed for nobody else
    sizes = [len(task.positions[group]) for group in groups[1:]]
    shares = [0.33 * size / sum(sizes) for size in sizes]
    assert list(task.roles.betas.values()) == pytest.approx(shares)


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"target": "eopp1_sum"}, ("eopp1_sum", None)),
        ({"target": "auc_worst=0.9"}, ("auc_worst", 0.9)),
    ],
)
def test_steps_are_judged_by_the_target_and_its_bound(trained, cache, change, setting):
    judge = make_prune_task(settings(trained, cache, **change)).judge
    assert (judge.target.name, judge.target.bound) == setting


@pytest.fixture(scope="module", params=["weight", pytest.param("channel", marks=pytest.mark.slow)])
def pruned(request, trained, cache, tmp_path_factory):
    """A quick pruning with fine-tuning, its settings, and those of the fine-tuning."""
    inputs = settings(trained, cache, structure=request.param, finetune_epochs=1, lr=3e-3)
    text = []

    def fit(model, splits, schedule, own, **rest):
        text.append(own)
        return job_fit(model, splits, schedule, own, **rest)

    job_fit = job.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evenhand.jobs.prune.job.fit", fit)
        patch.setattr("evenhand.evaluation.requests.Bootstrap", lambda *_: Bootstrap(20))
        run = prune(inputs, tmp_path_factory.mktemp(request.param) / "run")
    return run, inputs, text


def test_the_fine_tuning_is_told_its_learning_rate(pruned):
    _, inputs, (text,) = pruned
    assert (text.lr, text.epochs) == (inputs.lr, inputs.finetune_epochs)


@pytest.mark.parametrize("name", ["before", "pruned", "finetuned"])
def test_a_loaded_model_gives_the_same_bytes(pruned, tmp_path, name):
    run, inputs, _ = pruned
    task = make_prune_task(inputs)
    result = predict_cohorts(load_model(run.folder(name)), task.splits.items(), task.accelerator)
    write_predictions(tmp_path / "again.parquet", result)
    assert (tmp_path / "again.parquet").read_bytes() == run.predictions_file(name).read_bytes()


def test_the_report_speaks_of_models_and_of_how_they_decide(pruned):
    page = html.unescape((pruned[0].root / "report.html").read_text())
    assert "Models side by side" in page
    assert "Decision rule: Youden's index (the largest sum of sensitivity and" in page
    assert "Decision threshold of the pruned and fine-tuned model:" in page


def test_page_notes_and_card_say_how_lucky_the_choice_may_be(pruned, tmp_path):
    run = pruned[0]
    luck = pruning_of(run).record.luck
    assert luck is not None
    assert (luck.how, luck.metric) == ("repeated halves", "log_loss_gap")  # 48 patients are too few
    says = " ".join(luck_sentences(luck))
    assert says in run.record.notes
    page = html.unescape((run.root / "report.html").read_text())
    assert f"Luck of the choice.</strong> {says}" in page
    write_card(run, None, tmp_path / "card.md")
    card = html.unescape((tmp_path / "card.md").read_text()).replace("\\", "")
    assert " ".join(says.split()) in card
    assert not (run.root / "validation").exists()


def test_large_validation_splits_choose_on_one_half(trained, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("evenhand.jobs.prune.judge.PATIENTS", 1)
    monkeypatch.setattr("evenhand.evaluation.requests.Bootstrap", lambda *_: Bootstrap(20))
    run = prune(settings(trained, cache, share=10), tmp_path / "run")
    curve, record = pd.read_csv(run.root / "curve.csv"), pruning_of(run).record
    assert record.chosen == curve["log_loss_gap"].argmin() > 0
    luck = record.luck
    assert luck is not None
    assert luck.how == "halves"
    patients = read_predictions(run.predictions_file("before")).of_split("val").table["patient_id"]
    assert luck.choosing + luck.confirming == patients.nunique()
    last = curve.loc[record.chosen]
    assert (luck.chosen[0], luck.confirmed[0]) == pytest.approx(
        (last["log_loss_gap"], last["confirm:log_loss_gap"])
    )
    page = html.unescape((run.root / "report.html").read_text())
    assert "had no part in the choice" in page
    assert "log_loss_gap, the half that confirms" in page


def test_differences_are_pruned_less_unpruned(pruned):
    """As `evenhand compare` subtracts what was there first from what came of it."""
    rows = pd.DataFrame(read_json(pruned[0].root / "metrics.json")["rows"])
    rows = rows[(rows["split"] == "test") & (rows["attribute"] == "*")]
    rows = rows[rows["metric"] == "log_loss"]
    values = rows.set_index(["model", rows["against"].fillna("")])["value"]
    for after, before in [("pruned", "before"), ("finetuned", "pruned"), ("finetuned", "before")]:
        assert values[after, before] == pytest.approx(values[after, ""] - values[before, ""])


@pytest.mark.parametrize(
    ("change", "smoothing"),
    [({}, 0.0), ({"class_weights": "balanced", "label_smoothing": 0.2}, 0.2)],
    ids=["plain", "weighted"],
)
def test_the_loss_is_the_one_that_trained_the_model(trained, cache, tmp_path, change, smoothing):
    copy = tmp_path / "run"
    shutil.copytree(trained, copy)
    facts = read_json(copy / "run.json")
    facts["settings"] |= change
    write_json(copy / "run.json", facts)
    tasks = [make_prune_task(settings(run, cache, estimator="ggn")) for run in (trained, copy)]
    loss = tasks[1].loss
    assert loss.label_smoothing == smoothing
    assert (loss.weight is None) == (not change)
    scores = [
        step_saliency(task, initial_state(task).model, 1)["backbone.conv1.0.weight"]
        for task in tasks
    ]
    assert torch.equal(*scores) == (not change)
    measured = [check_premise(task, first_saliency(task), {}).layers[0].measured for task in tasks]
    assert (measured[0] == measured[1]) == (not change)


def test_a_model_that_layers_cannot_tell_is_refused_before_the_first_step(
    trained, cache, monkeypatch
):
    class UsedAgain(Model):
        def forward(self, *arguments):
            logits = super().forward(*arguments)
            weight = self.backbone.conv1[0].weight  # once in its layer, and once more here
            return logits * (1 + weight.square().sum())

    def load(folder):
        model = load_model(folder)
        model.__class__ = UsedAgain
        return model

    monkeypatch.setattr("evenhand.jobs.prune.task.load_model", load)
    with pytest.raises(EvenhandError, match=r"for backbone\.conv1\.0\.weight: on two samples"):
        make_prune_task(settings(trained, cache))
    make_prune_task(settings(trained, cache, estimator="hutchinson"))


@pytest.mark.parametrize(
    ("estimator", "tried"),
    [("ggn", ("fisher", "ggn", "ggn-mc")), ("hutchinson", ("hutchinson",))],
)
def test_a_search_tries_no_estimator_that_the_layers_may_be_refused_by(estimator, tried):
    prune_settings = PruneSettings(run="run", attribute=("group",), estimator=estimator)
    trial = FixedTrial({"beta": 0.3, "share": 10.0, "estimator": estimator})
    pruning_space(prune_settings).suggest(trial)
    assert trial.distributions["estimator"].choices == tried


def test_an_export_says_the_same_and_its_card_tells_of_the_pruning(pruned, trained, tmp_path):
    run, arguments, _ = pruned
    facts = read_json(run.root / "pruning.json")
    file = tmp_path / "model.safetensors"
    ended = evenhand("export", run.root, "--format", "safetensors", "--out", file)
    assert ended.status == 0, ended.err
    model, again = load_model(run.folder("finetuned")), from_safetensors(file)
    assert again.spec == model.spec
    inputs = torch.rand(3, *model.spec.inputs.shape)
    with torch.no_grad():
        assert torch.equal(again(inputs), model(inputs))
    card = (tmp_path / "model.md").read_text()
    assert "# The pruned and fine-tuned model" in card
    assert f"pruned from: the model full of the run {trained}".replace("_", r"\_") in card
    assert f"- pruned for {facts['unprivileged']}, the unprivileged group by group, against" in card
    left = sum(p.numel() for p in model.parameters())
    zeros = sum(int((p == 0).sum()) for p in model.parameters())
    narrow = arguments.structure == "channel"
    assert ("whole channels are removed" if narrow else "single weights are zero") in card
    before = facts["cost"]["before"]["parameters"]
    assert narrow is (left < before)
    assert f"{before:,} before, {left:,} after, of which {zeros:,} are zero" in card
    steps = len((run.root / "curve.csv").read_text().splitlines()) - 2  # less names and step 0
    assert f"- chosen: step {facts['chosen']} of {steps}, a sparsity of" in card
