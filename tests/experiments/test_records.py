"""The typed content of ``run.json``, of this version and of schema 1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic_core import to_jsonable_python

from evenhand.errors import EvenhandError
from evenhand.experiments.job_settings import register_job, settings_class
from evenhand.experiments.records import Parent, RunRecord, SourceRecord, data_settings
from evenhand.experiments.runs import Run, begin_run, open_run
from evenhand.experiments.settings import FinetuneSettings
from evenhand.files import DamagedError, read_json, write_json
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.runs import SCHEMA, run_scope
from evenhand.settings import current_settings
from evenhand.training.settings import LoopSettings

EARLIER = Path(__file__).parent / "records"
JOBS = [path.stem for path in sorted(EARLIER.glob("*.json"))]


@pytest.fixture
def earlier(tmp_path):
    """A run of schema 1, by its job."""

    def make(job: str) -> Run:
        root = tmp_path / job
        root.mkdir()
        shutil.copy(EARLIER / f"{job}.json", root / "run.json")
        return open_run(root)

    return make


@pytest.fixture
def trained(tmp_path):
    with run_scope():
        settings = FinetuneSettings(
            data="phantom:", attribute=("sex",), bins=("age=60",), batch_size=7, seed=5
        )
        return begin_run(tmp_path / "trained", "finetune", settings, fingerprint="f")


@pytest.mark.parametrize("job", JOBS)
def test_a_run_of_schema_1_has_the_settings_of_its_job(job, earlier):
    written = read_json(EARLIER / f"{job}.json")
    record = earlier(job).record
    assert written["schema"] == 1
    assert (record.schema_version, record.job) == (SCHEMA, job)
    assert type(record.settings) is settings_class(job)
    assert record.settings.seed == written["settings"]["seed"]
    assert record.models == tuple(written["models"])
    assert record.source.unit == "patient"


@pytest.mark.parametrize("job", [job for job in JOBS if job != "prune"])
def test_a_run_of_schema_1_loses_nothing_but_the_names_of_targets(job, earlier):
    written, record = read_json(EARLIER / f"{job}.json"), earlier(job).record
    now = record.model_dump(mode="json", by_alias=True, exclude_unset=True)
    for cut in written.get("cuts", {}).values():
        cut["origin"] = "validation" if cut.pop("fitted") else "run"
    assert {**now, "schema": 1, "settings": None} == {**written, "settings": None}
    fields = settings_class(job).model_fields
    settings = current_settings(written["settings"], fields)
    newer = {name: fields[name].default for name in now["settings"].keys() - settings.keys()}
    for name, value in settings.items():  # there may be several of it now
        if isinstance(now["settings"][name], list) and not isinstance(value, list):
            settings[name] = [value]
    assert now["settings"] == to_jsonable_python({**newer, **settings})


@pytest.mark.parametrize(("fitted", "origin"), [(True, "validation"), (False, "run")])
def test_a_threshold_of_schema_1_tells_where_it_comes_from(tmp_path, fitted, origin):
    written = read_json(EARLIER / "predict.json")
    written["cuts"]["full"]["fitted"] = fitted
    write_json(tmp_path / "run.json", written)
    assert open_run(tmp_path).record.cuts["full"].origin == origin


def test_a_pruning_of_schema_1_is_taken_apart(earlier):
    written, record = read_json(EARLIER / "prune.json"), earlier("prune").record
    own, parent = record.settings_as(PruneSettings), record.parent
    assert (own.target, own.batch_size, own.finetune_epochs) == ("auc_gap", 16, 1)
    assert (parent.run, parent.model) == (written["of"]["run"], written["of"]["model"])
    trained = parent.record.settings_as(FinetuneSettings)
    assert (trained.strategy, trained.batch_size) == ("full", 32)  # its own, not the pruning's 16
    loop = {name: getattr(trained, name) for name in LoopSettings.model_fields}
    assert loop == LoopSettings.model_validate(written["training"]).model_dump()
    assert data_settings(record).data == written["settings"]["data"]


def test_a_record_is_read_as_it_was_written(trained):
    trained.note(
        models=["full"], source=SourceRecord(reader="phantom", path="p"), pairs=[("a", "b")]
    )
    record = trained.record
    assert record.models == ("full",)
    assert record.pairs == (("a", "b"),)
    assert record.settings == FinetuneSettings(
        data="phantom:", attribute=("sex",), bins=("age=60",), batch_size=7, seed=5
    )
    assert record.attributes == ("sex",)
    with pytest.raises(Exception, match="frozen"):
        record.seed = 4


def test_settings_that_cannot_be_given_together_are_read_from_a_full_list(tmp_path, trained):
    """A run keeps the defaults, too: ``prunable`` is one that channels refuse if it is given."""
    settings = PruneSettings(run=trained.root, attribute=("sex",), structure="channel")
    with run_scope():
        run = begin_run(tmp_path / "pruned", "prune", settings, fingerprint="f")
    assert run.record.settings == settings


def test_a_pruning_reads_the_data_of_its_parent_but_for_what_it_says_itself(tmp_path, trained):
    settings = PruneSettings(run=trained.root, attribute=("age",), data="phantom:seed=2", seed=9)
    with run_scope():
        run = begin_run(tmp_path / "pruned", "prune", settings, fingerprint="f")
    run.note(parent=Parent(run="trained", model="full", record=trained.record))
    shutil.rmtree(trained.root)
    read = data_settings(run.record)
    assert (read.data, read.attribute, read.seed) == ("phantom:seed=2", ("age",), 9)
    assert [record.job for record in run.record.lineage()] == ["prune", "finetune"]
    assert next(iter(run.record.parent.record.lineage())).settings.batch_size == 7


def test_a_run_that_read_no_data_says_so(earlier):
    with pytest.raises(EvenhandError, match="a run of 'compare' reads no data set"):
        data_settings(earlier("compare").record)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"job": "tumble"}, r"no job 'tumble'; there are: .* Did you mean"),
        ({"settings": []}, "settings: Input should be an object"),
        ({"settings": {"seed": 1}}, "settings: it lacks 'attribute'"),
        ({"settings": {"speed": 1}}, "speed: Extra inputs are not permitted"),
        ({"settings": {"seed": "5"}}, "settings: seed is '5', but must be 5"),
        ({"notes": "one"}, "notes: Input should be a valid"),
        ({"parent": {"run": "x"}}, "it lacks 'parent.model'"),
    ],
)
def test_a_damaged_record_is_refused_by_file_and_place(trained, change, problem):
    path = trained.root / "run.json"
    record = read_json(path)
    if isinstance(change.get("settings"), dict) and problem.find("lacks") < 0:
        change = {"settings": record["settings"] | change["settings"]}
    write_json(path, record | change)
    with pytest.raises(DamagedError, match=problem) as refused:
        open_run(trained.root)
    assert str(path) in str(refused.value)


def test_an_entry_that_nobody_knows_is_kept_but_not_written(trained):
    path = trained.root / "run.json"
    write_json(path, read_json(path) | {"mine": {"a": 1}})
    trained.note(models=["full"])
    assert read_json(path)["mine"] == {"a": 1}
    with pytest.raises(TypeError, match="modles"):
        trained.note(modles=["full"])


def test_where_a_job_works_is_not_kept(tmp_path):
    settings = TuneSettings(data="phantom:", cache=tmp_path, workers=2, prefix_disk=3)
    resumable = settings.recorded().keys()
    assert {*TuneSettings.model_fields} - resumable >= {
        *("cache", "prefix_memory", "prefix_disk", "storage", "workers", "engine", "ray_address"),
        *("worker_cpus", "worker_gpus", "tls_certificate", "tls_key"),
    }
    assert {"data", "attribute", "seed", "target", "trials", "batch_size", "device"} <= resumable


def test_a_job_of_somebody_else_is_read_once_it_is_registered(tmp_path):
    register_job("somebodys", f"{FinetuneSettings.__module__}:FinetuneSettings")
    with run_scope():
        run = begin_run(tmp_path, "somebodys", FinetuneSettings(data="phantom:"), fingerprint="f")
    assert isinstance(open_run(run.root).record, RunRecord)
    assert json.loads((tmp_path / "run.json").read_text())["job"] == "somebodys"
