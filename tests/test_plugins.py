"""What is registered by a module of one's own, or by an installed plug-in, works everywhere."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.command import SMALL, evenhand
from tests.conftest import ROOT

from evenhand import plugins
from evenhand.errors import EvenhandError
from evenhand.files import read_json
from evenhand.masks.registry import STRATEGIES
from evenhand.methods.registry import OWN
from evenhand.metrics import METRICS
from evenhand.pretraining.registry import SSL_OBJECTIVES
from evenhand.pruning.registry import ESTIMATORS
from evenhand.registry import Registry

GUIDE = (ROOT / "docs" / "guides" / "extend.md").read_text(encoding="utf-8")
MODULE = GUIDE.split("```python\n")[1].partition("```")[0]
PHANTOMS = "phantom:patients=80,size=32,seed=1"
TRAIN = (*SMALL, "--attribute", "group", "--epochs", 1, "--batch-size", 32)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """A folder with a module of one's own, which is the working directory of the tests."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_own_things.py").write_text(MODULE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        yield "my_own_things"
    sys.modules.pop("my_own_things", None)
    for registry, name in (
        *((METRICS, "square_loss"), (STRATEGIES, "first"), (SSL_OBJECTIVES, "distance")),
        *((ESTIMATORS, "ones"), (OWN, "plain")),
    ):
        registry.remove(name)


@pytest.fixture(scope="module")
def tuned(module, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tuned"
    words = ("--target", "square_loss_worst", "--target", "square_loss", "--trials", 1)
    more = ("--confirm", 0, "--baseline", "first-1", "--method", "plain", "--import", module)
    ended = evenhand("tune", PHANTOMS, *TRAIN, *words, *more, "--out", out)
    assert ended.status == 0, ended.err
    return out


def test_a_search_for_an_own_metric_by_an_own_method_against_an_own_strategy(tuned, module):
    facts = read_json(tuned / "run.json")
    assert facts["settings"]["imports"] == [module]
    assert "first-1" in facts["models"]
    model = read_json(tuned / "models" / "first-1" / "model.json")
    assert {item["depth"] for item in model["units"] if item["tuned"]} == {1}
    assert model["val"].keys() == {"square_loss_worst", "square_loss"}
    assert "square_loss_worst" in (tuned / "report.html").read_text(encoding="utf-8")


def test_a_pruning_stops_at_an_own_metric_by_an_own_estimator(tuned, module, tmp_path):
    out = tmp_path / "run"
    words = ("--attribute", "group", "--estimator", "ones", "--share", 10, "--limit", 20)
    more = ("--target", "square_loss_gap=1", "--rank-by", "square_loss", "--import", module)
    ended = evenhand("prune", tuned, *words, *more, "--budget-metric", "square_loss", "--out", out)
    assert ended.status == 0, ended.err
    facts = read_json(out / "pruning.json")
    assert (facts["criterion"], facts["target"]) == ("square_loss_gap", 1.0)
    assert "the target square_loss_gap=1 was met" in facts["verdict"]


def test_an_encoder_is_taught_by_an_own_objective(module, tmp_path):
    out = tmp_path / "run"
    words = ("pretrain", PHANTOMS, *SMALL, "--epochs", 1, "--patience", 0, "--batch-size", 32)
    ended = evenhand(*words, "--ssl", "distance", "--import", module, "--out", out)
    assert ended.status == 0, ended.err
    assert read_json(out / "run.json")["settings"]["ssl"] == "distance"


def test_lists_show_what_is_imported(module):
    assert "square_loss" in evenhand("audit", "--import", module, "--list-metrics").out
    assert "plain" in evenhand("methods", "--import", module).out


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_import_it_too(module, engine, tmp_path):
    out = tmp_path / "run"
    words = ("--target", "square_loss_worst", "--trials", 2, "--confirm", 0, "--workers", 2)
    more = ("--baseline", "first-1", "--import", module, "--engine", engine)
    ended = evenhand("tune", PHANTOMS, *TRAIN, *words, *more, "--out", out)
    assert ended.status == 0, ended.err


def test_a_run_that_needs_a_module_says_so(tuned, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "my_own_things")
    for words in (("prune", tuned, "--attribute", "group"), ("predict", tuned, PHANTOMS)):
        ended = evenhand(*words, "--out", tmp_path / "out")
        assert ended.status == 2
        assert "was made with --import my_own_things. Give this command the same" in ended.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module", "there is no module 'no_such_module' in"),
        ("folder/module.py", "give a module's name as Python imports it"),
    ],
)
def test_modules_that_cannot_be_imported(tmp_path, name, message):
    ended = evenhand("finetune", PHANTOMS, *TRAIN, "--import", name, "--out", tmp_path / "out")
    assert ended.status == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_library", "no_such_library"),
        ("raise SystemExit(0)", "SystemExit"),
        ("x = 1\ny = 1 / 0", "line 2"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_module_that_raises_is_refused_by_name(tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "breaks_on_import.py").write_text(text)
    with pytest.raises(EvenhandError, match="--import breaks_on_import") as caught:
        plugins.import_modules(["breaks_on_import"])
    assert message in str(caught.value)


def test_installed_plugins_are_found_by_their_entry_points(tmp_path, monkeypatch):
    (tmp_path / "installed_plugin.py").write_text(
        "from evenhand import register_ssl\n"
        "def register():\n"
        "    @register_ssl('zero', widths=(4,))\n"
        "    def zero(first, second):\n"
        "        return 0 * first.sum()\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("mine", "installed_plugin:register", plugins.PLUGINS)
    monkeypatch.setattr(plugins, "_entry_points", lambda: (entry,))
    monkeypatch.setattr(plugins, "_loaded", [])
    assert SSL_OBJECTIVES.find("zero").widths == (4,)
    SSL_OBJECTIVES.remove("zero")


def test_a_plugin_that_fails_is_named(monkeypatch):
    entry = EntryPoint("broken", "no_such_plugin:register", plugins.PLUGINS)
    monkeypatch.setattr(plugins, "_entry_points", lambda: (entry,))
    monkeypatch.setattr(plugins, "_loaded", [])
    with pytest.raises(EvenhandError, match="the plug-in broken = no_such_plugin:register"):
        SSL_OBJECTIVES.find("nothing")


def test_a_name_is_taken_once():
    own: Registry[int] = Registry("size")
    own.add("small", 1, module="a")
    own.add("small", 2, module="a")  # the module is imported again
    with pytest.raises(
        EvenhandError, match="a has registered a size 'small' already; choose another name in b"
    ):
        own.add("small", 3, module="b")
    with pytest.raises(
        EvenhandError, match=r"evenhand\.pretraining\.objectives\.simclr has registered"
    ):
        SSL_OBJECTIVES.add("simclr", SSL_OBJECTIVES["vicreg"], module="b")
    with pytest.raises(EvenhandError, match="cannot be the name of a size"):
        own.add("a b", 1, module="a")


def test_what_is_built_in_is_listed_as_it_is_registered():
    for registry in (STRATEGIES, SSL_OBJECTIVES, ESTIMATORS):
        listed = registry.titles()
        assert set(registry) >= set(listed)
        assert all(title.endswith(".") for title in listed.values())


def test_settings_take_the_path_of_their_modules_to_workers(tmp_path, monkeypatch):
    import pickle

    from evenhand.experiments.settings import FinetuneSettings

    (tmp_path / "far_away.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    state = pickle.dumps(FinetuneSettings(data="d", imports=("far_away",)))
    monkeypatch.setattr(sys, "path", [item for item in sys.path if item != str(tmp_path)])
    monkeypatch.delitem(sys.modules, "far_away")
    assert pickle.loads(state).imports == ("far_away",)
    assert Path(sys.modules["far_away"].__file__).parent == tmp_path
