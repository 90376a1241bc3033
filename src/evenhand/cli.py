"""The command line: parse, call one function, print.

Flags are made from the settings of each job, so that a setting has one home. Everything heavy is
imported inside the commands: help has to answer at once.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NoReturn, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from evenhand.assess.requirements.settings import CheckSettings
from evenhand.assess.settings import AssessSettings
from evenhand.assess.similarity.settings import SimilaritySettings
from evenhand.audit.settings import AuditSettings, CompareSettings, PredictSettings
from evenhand.errors import EvenhandError
from evenhand.finetune.settings import FinetuneSettings
from evenhand.pretrain.settings import PretrainSettings
from evenhand.prune.settings import PruneSettings
from evenhand.tune.settings import TuneSettings

app = typer.Typer(
    name="evenhand",
    help="Find the patients whom a medical model fails, and fix the model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Job = Callable[[Any, Any, bool], None]


def main() -> None:
    """Run the command line; a mistake of the user becomes one text on stderr and status 2."""
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except EvenhandError as error:
        _refuse(str(error))
    except typer.TyperException as error:
        _refuse(error.format_message())
    except typer.Abort:
        raise SystemExit(130) from None  # interrupted from the keyboard
    raise SystemExit(status)


def _refuse(text: str) -> NoReturn:
    print(f"evenhand: {text}", file=sys.stderr)
    raise SystemExit(2) from None


def job(
    settings: type[BaseModel], *positional: str, more: tuple[inspect.Parameter, ...] = ()
) -> Callable[[Job], Job]:
    """Register a function as the command of its name, with a flag for each setting.

    ``--config FILE.yaml`` gives settings, too; a flag beats the file. ``more`` are flags that
    answer by themselves.
    """

    def register(function: Job) -> Job:
        def run(**given: Any) -> None:
            for answered in more:
                given.pop(answered.name)
            out, config, overwrite = given.pop("out"), given.pop("config"), given.pop("overwrite")
            function(_gather(settings, config, given, positional), out, overwrite)

        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*_parameters(settings, positional), *_common_flags(function), *more]
        )
        app.command(function.__name__, help=inspect.getdoc(function))(run)
        return function

    return register


def _parameters(settings: type[BaseModel], positional: tuple[str, ...]) -> list[inspect.Parameter]:
    """Return one parameter per setting; none has a default, so that a given flag can be told."""
    fields = settings.model_fields
    order = [*positional, *(name for name in fields if name not in positional)]
    return [_parameter(name, fields[name], name in positional) for name in order]


def _parameter(name: str, field: Any, positional: bool) -> inspect.Parameter:
    text = field.description
    if not any(field.default is nothing for nothing in (PydanticUndefined, None, False, ())):
        shown = (
            " ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        )
        text = f"{text} [{shown}]"
    kind: Any = _parsed_as(field.annotation)
    if positional:
        info: Any = typer.Argument(help=text, metavar=name.upper(), show_default=False)
    else:
        shown = _metavar(field.annotation)
        info = typer.Option(
            f"--{name.replace('_', '-')}", help=text, metavar=shown, show_default=False
        )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, info]
    )


def _parsed_as(kind: Any) -> Any:
    """Return what the parser makes of a setting: a switch or text, which the settings check."""
    if kind is bool:
        return bool
    if get_origin(kind) is not tuple:
        return str
    parts = get_args(kind)
    return list[str] if parts[-1] is Ellipsis else tuple.__class_getitem__((str,) * len(parts))


def _metavar(kind: Any) -> str | None:
    """Return what help shows for a setting's value; None for a switch."""
    names = {bool: None, int: "INTEGER", float: "NUMBER", Path: "PATH", str: "TEXT"}
    if kind in names:
        return names[kind]
    parts = [part for part in get_args(kind) if part not in (NoneType, Ellipsis)]
    if get_origin(kind) is Literal:
        return "|".join(map(str, parts))
    return " ".join(str(_metavar(part)) for part in parts)


def _common(name: str, kind: Any, default: Any, text: str) -> inspect.Parameter:
    info = typer.Option(f"--{name}", help=text, show_default=False)
    annotation = Annotated[kind, info]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


def _common_flags(function: Callable[..., None]) -> tuple[inspect.Parameter, ...]:
    """Return the flags of every job; where the function can do without ``out`` so can the user."""
    out = inspect.signature(function).parameters["out"].default
    return (
        _common("out", Path | None, out, "folder of the run"),
        _common("config", Path | None, None, "YAML file of settings; a flag beats it"),
        _common("overwrite", bool, False, "replace the run that is in the folder"),
    )


def _print_metrics(asked: bool) -> None:
    from evenhand.measure import metric_listing

    if asked:
        typer.echo(metric_listing())
        raise typer.Exit


_LIST_METRICS = inspect.Parameter(
    "list_metrics",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool,
        typer.Option(
            "--list-metrics",
            help="list every metric and comparison, and stop",
            is_eager=True,
            callback=_print_metrics,
        ),
    ],
)


def _gather(
    settings: type[BaseModel],
    config: Path | None,
    given: dict[str, Any],
    positional: tuple[str, ...],
) -> BaseModel:
    """Return settings from a file and flags.

    Raises
    ------
    EvenhandError
        The file is no YAML of settings, or a value is not allowed; all of them are listed.
    """
    values = _from_file(config) if config else {}
    values |= {name: value for name, value in given.items() if value is not None and value != []}
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        problems = [_problem(problem, positional) for problem in error.errors()]
        raise EvenhandError("; ".join(problems)) from None


def _problem(problem: Any, positional: tuple[str, ...]) -> str:
    """Return one thing that pydantic finds wrong with settings, by the name of its flag."""
    name = str(next(iter(problem["loc"]), "settings"))
    flag = name.upper() if name in positional else f"--{name.replace('_', '-')}"
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{flag} is missing"
    return f"{flag}: {text}" + (f" (given: {problem['input']!r})" if problem["loc"] else "")


def _from_file(config: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EvenhandError(f"--config {config} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise EvenhandError(f"--config {config} holds no settings; write NAME: VALUE lines.")
    return {str(name).replace("-", "_"): value for name, value in values.items()}


@job(CheckSettings, "data")
def check(settings: CheckSettings, out: Path | None = None, overwrite: bool = False) -> None:
    """Measure what a data set must have: groups, outcomes, leaks, power. Status 1 if one fails."""
    from evenhand.assess.requirements.job import check as work
    from evenhand.assess.requirements.job import text_table

    found = work(settings, out, overwrite=overwrite)
    typer.echo(text_table(found))
    if out:
        typer.echo(f"\nreport: {out / 'report.html'}")
    raise typer.Exit(int(found.status == "fail"))


@job(FinetuneSettings, "data")
def finetune(settings: FinetuneSettings, out: Path, overwrite: bool) -> None:
    """Fine-tune a model by one strategy, and report on it by group."""
    from evenhand.finetune.job import finetune as work

    _show(work(settings, out, overwrite=overwrite))


@job(PretrainSettings, "data")
def pretrain(settings: PretrainSettings, out: Path, overwrite: bool) -> None:
    """Pre-train an encoder without labels, for other jobs to start from with --weights RUN."""
    from evenhand.files import read_json
    from evenhand.pretrain.job import ENCODER
    from evenhand.pretrain.job import pretrain as work

    run = work(settings, out, overwrite=overwrite)
    loss = read_json(run.model(ENCODER) / "model.json")["loss"]
    typer.echo(f"loss {loss:.3f} after {settings.epochs} epochs; start from it: --weights {out}")


@job(TuneSettings, "data")
def tune(settings: TuneSettings, out: Path, overwrite: bool) -> None:
    """FairTune: search, on validation fairness, which parts of a network may change."""
    from evenhand.tune.job import tune as work

    _show(work(settings, out, overwrite=overwrite, say=typer.echo))


@job(PruneSettings, "run")
def prune(settings: PruneSettings, out: Path, overwrite: bool) -> None:
    """FairPrune: remove the parameters that the privileged group needs and others do not."""
    from evenhand.prune.job import prune as work

    _show(work(settings, out, overwrite=overwrite, say=typer.echo))


@job(PredictSettings, "run", "data")
def predict(settings: PredictSettings, out: Path, overwrite: bool) -> None:
    """Apply a run's model to new or external patients, and audit it there."""
    from evenhand.finetune.predicting import predict as work

    _show(work(settings, out, overwrite=overwrite))


@job(AuditSettings, "inputs", more=(_LIST_METRICS,))
def audit(settings: AuditSettings, out: Path, overwrite: bool) -> None:
    """Audit predictions: files in the contract's layout, or runs; several side by side."""
    from evenhand.audit.job import audit as work

    _show(work(settings, out, overwrite=overwrite))


@job(CompareSettings, "inputs", more=(_LIST_METRICS,))
def compare(settings: CompareSettings, out: Path, overwrite: bool) -> None:
    """Compare models in pairs on the same samples: chosen models of runs, or predictions."""
    from evenhand.audit.comparison import compare as work

    _show(work(settings, out, overwrite=overwrite))


@job(SimilaritySettings, "runs")
def similarity(settings: SimilaritySettings, out: Path, overwrite: bool) -> None:
    """Compare the layers of two runs' models: how alike they see each group."""
    from evenhand.assess.similarity.job import similarity as work
    from evenhand.assess.similarity.job import text_table
    from evenhand.files import read_json

    run = work(settings, out, overwrite=overwrite)
    typer.echo(text_table(read_json(run.root / "similarity.json")))
    typer.echo(f"\nreport: {run.root / 'report.html'}")


@job(AssessSettings, "data")
def assess(settings: AssessSettings, out: Path, overwrite: bool) -> None:
    """Assess whether self-supervision makes a model fairer: five stages, one report."""
    from evenhand.assess.job import assess as work

    run = work(settings, out, overwrite=overwrite, say=typer.echo)
    typer.echo("\n".join(run.facts["answer"]))
    typer.echo(f"\nreport: {out / 'report.html'}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder of the two runs")] = Path("demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier demo")] = False,
) -> None:
    """Run FairTune on phantoms with a planted shortcut, in about two minutes."""
    from evenhand.tune.demo import demo as work

    _show(work(out, overwrite=overwrite, say=typer.echo))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="a run directory")],
    card: Annotated[Path | None, typer.Option(help="write a model card (Markdown), too")] = None,
    model: Annotated[str | None, typer.Option(help="whose card [the chosen one's]")] = None,
) -> None:
    """Write metrics.json and report.html of a finished run again, from its predictions."""
    from evenhand.assess.pages import PAGES, write_page
    from evenhand.audit.card import write_card
    from evenhand.audit.evaluate import evaluate
    from evenhand.runs import open_run

    found = open_run(run)
    if not found.finished:
        raise EvenhandError(f"the run in {run} is not finished; give its command again.")
    if found.facts["job"] in PAGES:
        write_page(found)
        if card:
            raise EvenhandError(
                f"--card: {run} is a run of {found.facts['job']!r}, without models."
            )
        typer.echo(f"report: {run / 'report.html'}")
        return
    if found.facts["job"] == "assess":
        from evenhand.assess.job import report_again

        report_again(found)
        typer.echo(f"report: {run / 'report.html'}")
        return
    evaluate(found, chosen=found.facts["chosen"])
    _show(found)
    if card:
        write_card(found, model, card)
        typer.echo(f"card: {card}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="a run directory")],
    out: Annotated[Path, typer.Option(help="the file; its card gets the same name with .md")],
    form: Annotated[str, typer.Option("--format", help="onnx or safetensors")] = "onnx",
    model: Annotated[str | None, typer.Option(help="which model [the chosen one]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the files")] = False,
) -> None:
    """Write a run's model as ONNX or safetensors, checked, with its model card."""
    from evenhand.finetune.exporting import export as work

    off = work(run, out, form=form, model=model, overwrite=overwrite)
    typer.echo(f"{out}: its logits are within {off:.1e} of the model's; card: {out.stem}.md")


@app.command()
def units(
    backbone: Annotated[str, typer.Argument(help="timm's name of the network")],
    family: Annotated[str | None, typer.Option(help="one search space only")] = None,
) -> None:
    """List a backbone's tunable units, by search space."""
    from evenhand.models.listing import unit_listing

    typer.echo(unit_listing(backbone, family))


datasets = typer.Typer(help="List the data sets that can be read, or check one that you have.")
app.add_typer(datasets, name="datasets", invoke_without_command=True)


@datasets.callback()
def list_datasets(context: typer.Context) -> None:
    """List the data sets that can be read: task, labels, attributes, layout, licence, access."""
    from evenhand.cohort.listing import data_set_listing

    if context.invoked_subcommand is None:
        typer.echo(data_set_listing())


@datasets.command("verify")
def verify_dataset(
    data: Annotated[str, typer.Argument(help="READER:PATH, as in ham10000:data/ham10000")],
) -> None:
    """Check that a folder is the data set that its reader reads, and count what is in it."""
    from evenhand.cohort.listing import verify

    typer.echo(verify(data))


def _show(run: Any) -> None:
    """Print a finished run's main numbers, what must be known of them, and the report's place."""
    from evenhand.audit.asked import measure_settings
    from evenhand.audit.printed import print_table
    from evenhand.files import read_json
    from evenhand.measure import as_table

    facts = run.facts
    rows = as_table(read_json(run.root / "metrics.json")["rows"])
    typer.echo(print_table(rows, measure_settings(facts).split))
    for note in facts.get("notes", ()):
        typer.echo(f"\n{note}")
    typer.echo(f"\nreport: {run.root / 'report.html'}")
