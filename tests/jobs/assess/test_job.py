"""The assessment: one command, five parts, nothing done twice, and no claim without ground."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from markupsafe import escape
from pydantic import ValidationError
from tests.command import evenhand

from evenhand import load_model
from evenhand.experiments.runs import Run, begin_run
from evenhand.experiments.task import prepare_task
from evenhand.experiments.task_cache import cached_task
from evenhand.files import read_json, write_json
from evenhand.jobs.assess.answers import answers, seeds_text
from evenhand.jobs.assess.claims import RecipeClaims, make_claims
from evenhand.jobs.assess.evaluation import Evaluation, RowCounts
from evenhand.jobs.assess.evidence import evidence_part
from evenhand.jobs.assess.grid import Cell, make_cell_model, pretrain_encoder
from evenhand.jobs.assess.judging import evaluate_grid
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.assess.starts import encoder_starts
from evenhand.jobs.check.job import measure_requirements
from evenhand.jobs.pretrain.curve import LossCurve
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.masks.masks import full_mask
from evenhand.metrics import holm
from evenhand.metrics.parity import ParityNumbers
from evenhand.runs import run_scope
from evenhand.tables.predictions import Predictions, write_predictions

DATA = "series_phantom:patients=160,steps=12,seed=1"
GRID = ("--cell", "frozen1m", "--cell", "frozen3", "--seeds", 2, "--label-share", 1)
SHORT = ("--epochs", 2, "--pretrain-epochs", 1, "--device", "cpu", "--attribute", "group")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    words = ("assess", DATA, *GRID, "--label-share", 0.5, *SHORT, "--cache", cache)

    return lambda out, *more: evenhand(*words, *more, "--out", out)


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "assessed"
    ended = command(out)
    assert ended.status == 0, ended.err
    assert "2 encoders of at most 1 epoch and 12 fits" in ended.out
    assert " requirements are met; " in ended.out
    assert "group: " in ended.out
    assert cached_task.cache_info().currsize == 0
    return out


def test_every_cell_is_there_for_every_seed_and_share(run):
    names = {path.name for path in (run / "models").iterdir()}
    assert names == {
        f"{cell}{share}-seed{seed}"
        for cell in ("frozen1m", "frozen3", "supervised")
        for share in ("", "-50pct")
        for seed in (0, 1)
    }


def test_frozen_layers_are_bit_identical_to_the_encoder(run):
    encoder = load_model(run / "encoders" / "seed1").backbone.state_dict()
    tuned = load_model(run / "models" / "frozen1m-seed1").backbone.state_dict()
    still = {name for name in encoder if torch.equal(encoder[name], tuned[name])}
    assert still == {"conv2.weight", "conv2.bias"}


def test_the_report_opens_with_the_answer_and_has_a_part_for_each_stage(run):
    page = (run / "report.html").read_text()
    assert page.index("Did self-supervision make this fairer?") < page.index("1. Requirements")
    for title in ("1. Req", "2. Pre-training", "3. Fine-tuning", "4. Do both", "5. Evaluation"):
        assert title in page


def test_the_page_tells_the_answer_once_and_nothing_of_a_run_that_goes_on(run):
    page = (run / "report.html").read_text()
    facts = page[page.index('id="provenance"') :]
    assert "running" not in facts
    assert "deviation from parity" not in facts


def test_report_writes_the_same_numbers_again(run, command):
    rows = (run / "metrics.json").read_bytes()
    (run / "report.html").unlink()
    ended = evenhand("report", run)
    assert ended.status == 0, ended.err
    assert (run / "metrics.json").read_bytes() == rows
    assert "Did self-supervision make this fairer?" in (run / "report.html").read_text()


def test_the_report_shows_how_far_groups_lie_from_everybody_by_their_size(run):
    page = (run / "report.html").read_text()
    assert "Deviation by size of the group" in page
    assert "groups: too few to correlate their size" in page
    rows = pd.DataFrame(read_json(run / "metrics.json")["rows"])
    place = rows[(rows["model"] == "supervised") & (rows["metric"] == "auc_less_overall")]
    for value, size, name in zip(place["value"], place["n"], place["group"], strict=True):
        share = size / rows[rows["group"] == "*"]["n"].max()
        point = f"group: {name}, supervised: {100 * share:.1f}\N{NO-BREAK SPACE}%, {abs(value):.3f}"
        assert point in page


def test_numbers_are_in_the_contracts_columns(run):
    rows = pd.DataFrame(read_json(run / "metrics.json")["rows"])
    ours = rows[rows["against"] == "supervised"]
    assert set(ours["model"]) == {"frozen1m", "frozen3"}
    assert {"auc", "deviation_from_parity", "relative_reduction_of_deviation"} <= set(
        rows["metric"]
    )
    assert set(rows["model"]) >= {"supervised-50pct", "frozen3-50pct"}


def test_every_number_has_its_counts(run):
    rows = pd.DataFrame(read_json(run / "metrics.json")["rows"])
    test = pd.read_parquet(run / "models" / "supervised-seed0" / "predictions.parquet")
    test = test[test["split"] == "test"]
    expected = test[test["attr_group"] != "unknown"]
    for (attribute, group), values in rows.groupby(["attribute", "group"]):
        wanted = {"*": expected}.get(group, test[test["attr_group"] == group])
        wanted = test if attribute == "*" else wanted
        counted = [len(wanted), wanted["patient_id"].nunique(), wanted["label"].sum()]
        assert values[["n", "patients", "positives"]].drop_duplicates().to_numpy().tolist() == [
            counted
        ]


def test_what_is_done_is_not_done_again(run, command, tmp_path):
    facts = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**facts, "status": "running"})
    predictions = run / "models" / "frozen3-seed0" / "predictions.parquet"
    lost = run / "models" / "frozen3-seed1" / "predictions.parquet"
    times, before = predictions.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert command(run).status == 0
    assert predictions.stat().st_mtime_ns == times
    assert lost.read_bytes() == before


def test_requirements_are_measured_before_the_fits_and_once(command, tmp_path, monkeypatch):
    measured = []

    def watched(*arguments):
        measured.append(arguments)
        return measure_requirements(*arguments)

    monkeypatch.setattr("evenhand.jobs.assess.job.measure_requirements", watched)
    monkeypatch.setattr("evenhand.jobs.assess.job.fit_grid", killed)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            command(tmp_path / "out")
        assert read_json(tmp_path / "out" / "check.json")["findings"]
    assert len(measured) == 1


def killed(*arguments):
    raise RuntimeError("killed")


def write_cell(run, cell):
    """Write what evaluation reads of a cell: six patients of each class in each group, but c."""
    rng = np.random.default_rng(len(cell))
    table = pd.DataFrame({"attr_group": np.repeat(["a", "b", "c"], 12), "split": "test"})
    table["sample_id"] = table["patient_id"] = [f"P{number}" for number in range(36)]
    table["label"] = np.arange(36) % 2 * (table["attr_group"] != "c")
    table["score"] = np.clip(0.3 * table["label"] + rng.uniform(size=36), 0, 1)
    predictions = Predictions(table, ("0", "1"), {"group": ("a", "b", "c")})
    write_predictions(run.predictions_file(cell), predictions)
    write_json(run.folder(cell) / "model.json", {"val": {"overall_auc": 0.7}, "units": []})


def test_a_group_that_is_excluded_takes_no_part_in_the_answer(tmp_path):
    with run_scope():
        settings = AssessSettings(data="phantom:", attribute=("group",), cell=("frozen3",), seeds=1)
        run = begin_run(tmp_path, "assess", settings, fingerprint="")
    for cell in ("frozen3-seed0", "supervised-seed0"):
        write_cell(run, cell)
    assert (
        evaluate_grid(run, settings)[0].deviation("frozen3", "group").value is None
    )  # no positives
    settings = settings.model_copy(update={"exclude_group": ("group=c",)})
    result = evaluate_grid(run, settings)[0]
    assert result.deviation("frozen3", "group").value is not None
    assert set(result.group_differences("frozen3")) == {("group", "a"), ("group", "b")}
    assert result.sizes["group", "*"].n == 24
    assert result.sizes["*", "*"].n == 36


def test_the_page_names_a_group_that_is_excluded(run, tmp_path):
    out = shutil.copytree(run, tmp_path / "again")
    settings = Run(out).record.settings.model_copy(update={"exclude_group": ("group=unknown",)})
    Run(out).note(settings=settings)
    assert evenhand("report", out).status == 0
    assert "Group group=unknown: excluded from the comparison" in (out / "report.html").read_text()


@pytest.mark.parametrize("cell_names", [("scratch", "frozen1m"), ("frozen1m", "supervised")])
def test_scratch_is_the_supervised_cell_where_both_start_from_random_weights(cell_names):
    settings = AssessSettings(data="phantom:", cell=cell_names)
    assert set(settings.cell) == {"supervised", "frozen1m"}
    settings = AssessSettings(data="phantom:", cell=cell_names, weights="somewhere")
    assert set(settings.cell) == {"supervised", *cell_names}
    with pytest.raises(ValidationError, match="besides supervised and scratch"):
        AssessSettings(data="phantom:", cell=("scratch",), weights="somewhere")


@pytest.fixture
def start(run, tmp_path, monkeypatch):
    """The weights that a cell of seed 1 starts from, and those that pre-training starts from."""

    def start_of(strategy, **settings):
        unchanged = lambda model, *_: (model, LossCurve([1.0], [], [0.5], [2.0], [0.5, 3.0]))  # noqa: E731
        monkeypatch.setattr("evenhand.jobs.pretrain.training.train_encoder", unchanged)
        settings = AssessSettings(data=DATA, attribute=("group",), cache=tmp_path, **settings)
        task, empty, cell = prepare_task(settings), Run(tmp_path / strategy), Cell(strategy, 1.0, 1)
        encoder = pretrain_encoder(task, settings, empty, encoder_starts(settings)[0], 1).parent
        model, schedule = make_cell_model(task, settings, empty, cell)
        assert schedule.reach(1) == full_mask(model.backbone)
        return model, load_model(encoder)

    return start_of


@pytest.mark.parametrize("elsewhere", [False, True])
def test_all_arms_start_from_the_same_weights(run, start, elsewhere):
    weights = str(run / "models" / "frozen3-seed0" / "model.safetensors") if elsewhere else "none"
    supervised, encoder = start("supervised", weights=weights)
    ssl, _ = start("frozen0", weights=weights)
    for item in (supervised, ssl):
        assert same(item.backbone, encoder.backbone)
        assert item.spec.inputs == encoder.spec.inputs
    assert same(supervised.head, ssl.head)
    if elsewhere:
        assert same(supervised.backbone, load_model(run / "models" / "frozen3-seed0").backbone)
        scratch, _ = start("scratch", weights=weights, cell=("frozen0", "scratch"))
        assert not same(scratch.backbone, encoder.backbone)
        assert scratch.spec.inputs == encoder.spec.inputs


def same(first, second):
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_cells_with_few_labels_scale_their_inputs_alike(run):
    names = ("frozen3", "supervised", "frozen3-50pct", "supervised-50pct")
    inputs = [load_model(run / "models" / f"{name}-seed1").spec.inputs for name in names]
    assert all(item == inputs[0] for item in inputs)


@pytest.mark.slow
def test_scratch_takes_part_and_stands_for_nothing(run, command, tmp_path):
    weights = run / "models" / "frozen3-seed0" / "model.safetensors"
    ended = command(tmp_path / "out", "--cell", "scratch", "--weights", weights)
    assert ended.status == 0, ended.err
    assert f"({weights})" in (tmp_path / "out" / "report.html").read_text()
    rows = pd.DataFrame(read_json(tmp_path / "out" / "metrics.json")["rows"])
    assert set(rows["model"]) >= {"scratch", "scratch-50pct"}
    assert not read_json(tmp_path / "out" / "run.json")["chosen"].startswith(("scratch", "super"))


def test_every_seed_s_models_are_compared_as_similarity_compares_them(
    run, command, tmp_path, monkeypatch
):
    few = partial(SimilaritySettings, minimum=8)  # the groups of this small cohort are small
    monkeypatch.setattr("evenhand.jobs.assess.similarity.SimilaritySettings", few)
    out = shutil.copytree(run, tmp_path / "again")
    Run(out).note(status="running")
    assert command(out).status == 0
    content = read_json(out / "similarity.json")
    assert [item["seed"] for item in content["seeds"]] == [0, 1]
    first, second = (means(item["attributes"]["group"]) for item in content["seeds"])
    assert first == pytest.approx(over_layers(content["attributes"]["group"]["groups"]))
    assert first != pytest.approx(second)
    named = [name.replace("seed0", "seed1") for name in content["models"]]
    models = [word for name in named for word in ("--model", name)]
    words = ("similarity", out, out, *models, "--split", "val", "--minimum", 8)
    ended = evenhand(*words, "--cache", tmp_path, "--device", "cpu", "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    alone = read_json(tmp_path / "out" / "similarity.json")["attributes"]["group"]["groups"]
    assert over_layers(alone) == pytest.approx(second)
    assert "seed 1" in (out / "report.html").read_text(encoding="utf-8")


def means(attribute):
    return {row["group"]: row["mean"] for row in attribute["groups"]}


def over_layers(groups):
    return {row["group"]: np.mean(row["value"]) for row in groups if "value" in row}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_make_the_same_models(engine, run, command, tmp_path, monkeypatch):
    if engine == "ray":
        pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    out = tmp_path / "beside"
    ended = command(out, "--workers", 2, "--engine", engine)
    assert ended.status == 0, ended.err
    assert "12 fits of at most 2, 2 at a time" in ended.out
    for path in (run / "models").iterdir():
        same = out / "models" / path.name / "predictions.parquet"
        assert same.read_bytes() == (path / "predictions.parquet").read_bytes()
    assert (out / "metrics.json").read_bytes() == (run / "metrics.json").read_bytes()


def goes_on(run, again) -> bool:
    """Whether a run that was killed before its last model makes that one, and nothing anew."""
    facts = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", {**facts, "status": "running"})
    lost = run / "models" / "supervised-seed0" / "predictions.parquet"
    untouched = [path for path in run.glob("models/*/*") if path.parent != lost.parent]
    untouched += run.glob("encoders/*/*")
    before = [path.stat().st_mtime_ns for path in untouched]
    lost.unlink()
    assert again().status == 0
    return lost.exists() and [path.stat().st_mtime_ns for path in untouched] == before


@pytest.mark.slow
def test_a_killed_run_goes_on_with_workers_and_keeps_what_is_done(run, command):
    assert goes_on(run, lambda: command(run, "--workers", 2))


@pytest.mark.slow
def test_images_are_assessed_by_workers_and_after_a_kill(tmp_path):
    words = ("assess", "phantom:patients=200,size=32,seed=1", "--backbone", "test_resnet")
    grid = ("--image-size", 32, "--cell", "frozen2", "--seeds", 1, "--workers", 2)
    flags = ("--epochs", 1, "--pretrain-epochs", 1, "--device", "cpu", "--attribute", "group")
    out = tmp_path / "out"
    more = ("--cache", tmp_path / "cache", "--out", out)
    ended = evenhand(*words, *grid, *flags, *more)
    assert ended.status == 0, ended.err
    assert "Did self-supervision make this fairer?" in (out / "report.html").read_text()
    assert goes_on(out, lambda: evenhand(*words, *grid, *flags, *more))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--cell", "frozen9"), "no strategy 'frozen9'"),
        (("--ssl", "boil"), "no SSL objective 'boil'"),
        (("--method", "boil"), "no SSL objective 'boil'"),
        (("--label-share", 2), "--label-share"),
        (("--image-size", 64), "the samples are series"),
        (("--exclude-group", "group=minority"), "leaves majority of group"),
    ],
)
def test_bad_input_is_refused_before_any_work(command, tmp_path, more, message):
    ended = command(tmp_path / "out", *more)
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_a_correlation_of_size_and_distance_needs_groups_enough():
    sizes = {("*", "*"): RowCounts(100, 100, 50, 50)}
    aucs = {("site", f"{k}"): np.full(3, 0.8 + 0.01 * k) for k in range(6)}
    sizes |= {("site", f"{k}"): RowCounts(30 - k, 30 - k, 9, 9) for k in range(6)} | {
        ("site", "*"): RowCounts(99, 99, 99, 0)
    }
    apart = {"site": np.full(3, 0.1)}
    numbers = ParityNumbers(np.full(3, 0.8), aucs, apart, apart, {"site": True})
    both = {"frozen1m": (numbers,), "supervised": (numbers,)}
    settings = AssessSettings(data="phantom:")
    part = evidence_part(Evaluation(1.0, "frozen1m", both, {}, {}, sizes), settings)
    assert "over 6 groups" in part.sentences[-1]
    assert "\N{MINUS SIGN}1.00 with frozen1m" in part.sentences[-1]


def judged(auc: float, deviation: float, noise: float) -> ParityNumbers:
    """A model with these numbers, and resamples that stray by some noise."""
    stray = noise * np.r_[0, np.linspace(-1, 1, 99)]
    by_group, by_sex = {("sex", "f"): auc + stray}, {"sex": deviation + stray}
    return ParityNumbers(auc + stray, by_group, by_sex, {}, {"sex": True})


SIZES = dict.fromkeys([("*", "*"), ("sex", "*"), ("sex", "f")], RowCounts(400, 400, 200, 200))


def evaluation(ssl: ParityNumbers, supervised: ParityNumbers) -> Evaluation:
    both = {"frozen1m": (ssl,), "supervised": (supervised,)}
    return Evaluation(1.0, "frozen1m", both, {}, {}, SIZES)


def the_claims(evaluation: Evaluation) -> RecipeClaims:
    return make_claims([evaluation])[0]


def compared(ssl: ParityNumbers, supervised: ParityNumbers) -> str:
    return answers(the_claims(evaluation(ssl, supervised)))[0].answer.chip


def test_a_verdict_needs_a_difference_whose_interval_is_clear_of_0():
    supervised = judged(0.8, 0.4, 0.0)
    assert compared(judged(0.8, 0.2, 0.01), supervised) == "fairer"
    assert compared(judged(0.8, 0.6, 0.01), supervised) == "less fair"
    assert compared(judged(0.8, 0.39, 0.05), supervised) == "not certain"


def test_a_difference_without_an_interval_is_said_to_have_none():
    few = judged(0.8, 0.2, 0.01)
    few.deviation["sex"][1:11] = np.nan  # a tenth of the resamples
    verdict = answers(the_claims(evaluation(few, judged(0.8, 0.4, 0.0))))[0].answer
    assert verdict.chip == "not certain"
    assert "the difference has no interval (in more than 5 %" in verdict.headline
    assert "holds 0" not in verdict.headline


def test_no_claim_is_made_of_a_model_at_chance():
    supervised = judged(0.8, 0.4, 0.0)
    assert compared(judged(0.52, 0.1, 0.05), supervised) == "no claim"
    assert compared(judged(0.8, 0.1, 0.01), replace(judged(0.5, 0.4, 0.01))) == "no claim"


GROUPS = {("sex", "f"): 0.70, ("sex", "m"): 0.80}


def recipe(
    shifts: dict[str, float], spread: float = 0.002, seeds: int = 4
) -> tuple[ParityNumbers, ...]:
    """Models whose AUC by sex is shifted, and strays by seed; resamples stray a little."""
    noise = np.r_[0, np.linspace(-1, 1, 99)] * 0.002
    models = []
    for off in spread * np.linspace(-1, 1, seeds):
        by_sex = {key: auc + shifts.get(key[1], 0.0) + off + noise for key, auc in GROUPS.items()}
        everybody, deviation = 0.75 + off + noise, {"sex": 0.3 + off + noise}
        models.append(ParityNumbers(everybody, by_sex, deviation, {}, {"sex": True}))
    return tuple(models)


def recipes(shifts: dict[str, float], worst: str | None = "f", **how) -> Evaluation:
    sizes = SIZES | {("sex", "m"): RowCounts(400, 400, 200, 200)}
    models = {"frozen1m": recipe(shifts, **how), "supervised": recipe({}, **how)}
    return Evaluation(
        1.0, "frozen1m", models, {"supervised": {"sex": worst} if worst else {}}, {}, sizes
    )


@pytest.mark.parametrize(
    ("shifts", "worst", "levelled"),
    [
        ({"m": -0.05}, "f", True),  # nobody gains, men lose
        ({"m": -0.05, "f": -0.05}, "f", True),
        ({"m": -0.05, "f": +0.05}, "f", False),  # those served worst gain
        ({"m": +0.05, "f": -0.05}, "f", True),  # those served worst lose
        ({"m": -0.05, "f": +0.05}, "m", True),
        ({"m": -0.002}, "f", False),  # a point estimate alone
        ({}, "f", False),
        ({"m": -0.05}, None, True),  # whoever it is, nobody gains
        ({"m": -0.05, "f": +0.05}, None, False),
    ],
)
def test_levelling_down_is_said_where_it_holds(shifts, worst, levelled):
    (answer,) = answers(the_claims(recipes(shifts, worst)))
    (row,) = (row for row in answer.verdicts if row.about.startswith("levelling down"))
    assert row.claim == levelled
    assert row.text in answer.answer.details
    assert row.text.startswith("Levelled down: ") == levelled
    assert (answer.answer.chip == "levelled down") == levelled


def test_what_another_seed_may_tell_otherwise_is_not_claimed_of_a_recipe():
    steady, unsteady = (recipes({"m": -0.05}, spread=spread) for spread in (0.002, 0.06))
    assert "certain for m" in answers(the_claims(steady))[0].answer.details[1]
    assert (
        "The change in AUC is certain for no group"
        in answers(the_claims(unsteady))[0].answer.details[1]
    )


def test_one_seed_speaks_of_two_models():
    result = recipes({"m": -0.05}, seeds=1)
    assert any(row.claim for row in answers(the_claims(result))[0].verdicts)
    assert "these two models" in seeds_text(make_claims([result]))
    assert "Other seeds may give other results" in seeds_text(make_claims([result]))
    assert "Each cell has 4 seeds" in seeds_text(make_claims([recipes({})]))


def test_claims_are_corrected_for_all_that_the_page_judges():
    claims = the_claims(recipes({"m": -0.05}))
    assert len(claims.family) == 4  # everybody, deviation, two groups
    raw = [claim.change.difference.p for claim in claims.family]
    halves = np.minimum(2 * holm(raw), 1)  # similarity has the other half of the 5 %
    assert [claim.p_adjusted for claim in claims.family] == pytest.approx(halves)


def test_every_verdict_of_the_page_is_written(run):
    page = (run / "report.html").read_text()
    verdicts = read_json(run / "verdicts.json")["verdicts"]
    about = {verdict["about"].partition(",")[0] for verdict in verdicts}
    assert about >= {"AUC", "deviation from parity"}
    assert any(name.startswith("layers of") for name in about)
    texts = [verdict["text"] for verdict in verdicts if "requirement" not in verdict["about"]]
    assert all(str(escape(text)) in page for text in texts)


@pytest.mark.parametrize(("noise", "sure"), [(0.02, True), (0.5, False)])
def test_a_share_of_what_may_be_nothing_has_no_interval(noise, sure):
    supervised = replace(judged(0.8, 0.4, 0.01), deviation=judged(0.8, 0.4, noise).deviation)
    result = evaluation(judged(0.8, 0.2, 0.01), supervised)
    reduction = result.reduction("frozen1m", "sex")
    assert reduction.value == pytest.approx(0.5)
    assert (reduction.low is not None) == sure
    assert (
        "of the value with supervised" in answers(the_claims(result))[0].answer.headline
    ) == sure
    deviation = result.deviation("supervised", "sex")
    assert deviation.low == pytest.approx(0.4 - noise, abs=0.02) if sure else deviation.low == 0


def test_a_deviation_of_ratios_none_of_which_is_told_from_1_may_be_nothing():
    item = judged(0.8, 0.4, 0.02)
    result = evaluation(item, replace(item, apart={"sex": False}))
    assert result.deviation("frozen1m", "sex").low == pytest.approx(0.38, abs=0.01)
    assert result.deviation("supervised", "sex").low == 0
    assert result.reduction("frozen1m", "sex").low is None
