"""Jobs as functions: the settings of the command line as keywords, or as one object."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer
from tests.command import PHANTOMS, training

import evenhand
from evenhand.cli import app
from evenhand.errors import EvenhandError, UnknownNameError
from evenhand.evaluation.settings import AuditSettings, PredictSettings
from evenhand.experiments.settings import FinetuneSettings
from evenhand.flags import gather_settings
from evenhand.jobs.keywords import as_job, make_settings
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.tune.settings import TuneSettings

JOBS = (
    *(
        "assess",
        "audit",
        "benchmark",
        "check",
        "compare",
        "finetune",
        "predict",
        "pretrain",
        "prune",
    ),
    *("similarity", "tune"),
)
TABLE = "sample_id,patient_id,label,score,attr_sex\n" + "".join(
    f"s{k},p{k},{k % 2},{k % 7 / 7:.2f},{'fm'[k % 3 % 2]}\n" for k in range(40)
)


@pytest.fixture
def table(tmp_path):
    (tmp_path / "mine.csv").write_text(TABLE)
    return tmp_path / "mine.csv"


def job(kind, *positional):
    """A job that returns what it is called with."""

    @as_job(kind, *positional)
    def work(settings, out, *, overwrite=False):
        return settings, out, overwrite

    return work


@pytest.mark.parametrize("name", JOBS)
def test_keywords_are_the_flags_of_the_command(name):
    flags = {
        parameter.name for parameter in typer.main.get_command(app).commands[name].params
        if not getattr(parameter, "hidden", False)
    }  # fmt: skip
    keywords = inspect.signature(getattr(evenhand, name)).parameters.keys()
    assert flags - {"config", "list_metrics", "help"} == keywords - {"notify"}


def test_one_value_will_do_where_several_may_be_given():
    settings, out, overwrite = job(TuneSettings, "data")(
        "cases.csv", attribute="sex", baseline="full", exclude_patients="out.txt", out="runs/a"
    )
    assert settings == TuneSettings(
        data="cases.csv", attribute=("sex",), baseline=("full",), exclude_patients=("out.txt",)
    )
    assert (out, overwrite) == (Path("runs/a"), False)


def test_lists_paths_and_numbers_are_taken_for_what_flags_take():
    audit = job(AuditSettings, "inputs")
    settings, _, _ = audit(Path("a.csv"), "b.csv", threshold=0.3, attribute=["sex"], out="o")
    assert settings == AuditSettings(inputs=("a.csv", "b.csv"), threshold="0.3", attribute=("sex",))
    assert audit(["a.csv", "b.csv"], out="o")[0].inputs == (Path("a.csv"), Path("b.csv"))
    assert job(TuneSettings, "data")(Path("cases.csv"), out="o")[0].data == "cases.csv"
    assert job(TuneSettings, "data")("x", split=(0.5, 0.3, 0.2), out="o")[0].split == (
        0.5,
        0.3,
        0.2,
    )


def test_arguments_by_position_are_those_of_the_command():
    predict = job(PredictSettings, "run", "data")
    assert (
        predict("runs/a", "new.csv", out="o")[0]
        == predict(run="runs/a", data="new.csv", out="o")[0]
    )
    with pytest.raises(EvenhandError, match="'o' has no name: only run, data may"):
        predict("runs/a", "new.csv", "o")
    with pytest.raises(EvenhandError, match="data is given twice: 'a' and 'b'"):
        job(TuneSettings, "data")("a", data="b", out="o")


def test_one_settings_object_does_the_same():
    tune = job(TuneSettings, "data")
    settings = TuneSettings(data="cases.csv", attribute=("sex",))
    assert tune(settings, Path("o"), overwrite=True) == (settings, Path("o"), True)
    assert (
        tune(settings, out="o") == tune(settings=settings, out="o") == (settings, Path("o"), False)
    )
    with pytest.raises(EvenhandError, match="TuneSettings is given together with seed"):
        tune(settings, seed=3, out="o")


def test_a_run_stands_for_its_path(tmp_path):
    run = evenhand.Run(tmp_path / "a")
    assert job(PruneSettings, "run")(run, attribute="sex", out="o")[0].run == tmp_path / "a"
    weights = job(FinetuneSettings, "data")("x", weights=run, out="o")[0].weights
    assert weights == str(tmp_path / "a")


def test_an_unknown_keyword_is_refused_by_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"no setting 'atribute'; .* mean 'attribute'"):
        evenhand.tune("cases.csv", atribute="sex", out="o")
    with pytest.raises(UnknownNameError, match="no setting 'notify'"):
        evenhand.finetune("cases.csv", notify=print, out="o")


@pytest.mark.parametrize(
    ("keywords", "problem"),
    [
        ({"out": "o"}, "^data is missing: "),
        ({"data": "x"}, "out is missing: name the folder of the run"),
        ({"data": "x", "out": "o", "trials": 0}, r"trials: .*greater than 0 \(given: 0\)"),
        ({"data": "x", "out": "o", "seed": "a", "lr_min": -1}, "seed: .*; lr_min: "),
        ({"data": "x", "out": "o", "target": "auc", "objective": "auc"}, "is the earlier name of"),
    ],
)
def test_what_is_wrong_is_named_as_the_keyword_is(keywords, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EvenhandError, match=problem):
        evenhand.tune(**keywords)
    assert not [*tmp_path.iterdir()]


def test_earlier_names_are_taken():
    assert make_settings(TuneSettings, {"data": "x", "objective": "min_auc"}).target == (
        "auc_worst",
    )


def test_a_job_runs_as_the_command_does(tmp_path):
    """The same predictions, byte for byte."""
    from tests.command import evenhand as command

    cache = tmp_path / "cache"
    ended = command("finetune", PHANTOMS, *training(cache, "--epochs", 1, "--out", tmp_path / "a"))
    assert ended.status == 0, ended.err
    inputs = evenhand.open_run(tmp_path / "a").record.settings
    changed = {
        n: v for n, v in inputs if n in inputs.model_fields_set and n not in ("data", "cache")
    }
    run = evenhand.finetune(PHANTOMS, **changed, cache=cache, out=tmp_path / "b")
    first, other = evenhand.open_run(tmp_path / "a"), run
    assert (
        other.predictions_file("full").read_bytes() == first.predictions_file("full").read_bytes()
    )
    assert other.record.settings == first.record.settings


def test_an_audit_with_keywords_is_a_run(table, tmp_path):
    run = evenhand.audit(table, attribute="sex", replicates=20, out=tmp_path / "audit")
    assert isinstance(run, evenhand.Run)
    assert run.models == ("mine",)
    assert {"m", "f"} <= set(run.metrics["group"])


def test_one_value_stands_for_several_in_a_file_too(tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("attribute: sex\ntarget: auc_worst\nlabel: 7\nsplit: [0.5, 0.2, 0.3]\n")
    settings = gather_settings(TuneSettings, config, {"data": "cases.csv"}, ("data",))
    assert (settings.attribute, settings.target, settings.label) == (("sex",), ("auc_worst",), "7")
    assert settings.split == (0.5, 0.2, 0.3)


def test_what_is_neither_a_value_nor_a_list_is_refused():
    text = r"bins: give one value or a list of values \(given: \{'age': 60\}\)"
    with pytest.raises(EvenhandError, match=text):
        evenhand.audit("cases.csv", attribute="sex", bins={"age": 60}, out="out")
