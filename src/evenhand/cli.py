"""The command line: parse, call one function, print.

Heavy modules are imported inside the commands, so that help is printed at once.
"""

from __future__ import annotations

import gc
import inspect
import io
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from evenhand.errors import EvenhandError, count_text
from evenhand.evaluation.settings import AuditSettings, CompareSettings, PredictSettings
from evenhand.experiments.settings import FinetuneSettings
from evenhand.files import MACHINE_FAULTS
from evenhand.flags import Job, Sections, with_flags
from evenhand.jobs.adjust.settings import AdjustSettings
from evenhand.jobs.assess.settings import AssessSettings
from evenhand.jobs.benchmark.settings import BenchmarkSettings
from evenhand.jobs.check.settings import CheckSettings
from evenhand.jobs.pretrain.settings import PretrainSettings
from evenhand.jobs.prune.settings import PruneSettings
from evenhand.jobs.similarity.settings import SimilaritySettings
from evenhand.jobs.tune.settings import TuneSettings
from evenhand.launcher import check_alone, check_environment, is_main
from evenhand.listings import LIST_METRICS, Imports, datasets, methods, units
from evenhand.settings import Settings
from evenhand.workers import WorkerSettings, expect_workers

app = typer.Typer(
    name="evenhand",
    help="Find the patients whom a medical model fails, and fix the model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)
command = partial(app.command, cls=Sections)

COLLECT_EVERY = 10_000
"""New objects between two garbage collections. With Python's default of 700, jobs on tables of
thousands of rows take 10 % longer."""


def main() -> None:
    """Run the command line; print a user's mistake to stderr and exit with status 2."""
    for stream in (sys.stdout, sys.stderr):  # escape characters that the encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    gc.set_threshold(COLLECT_EVERY)
    try:
        check_environment()
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except EvenhandError as error:
        _exit_with(str(error))
    except OSError as error:
        if error.errno not in MACHINE_FAULTS:
            raise
        _exit_with(f"{error.filename or 'a file'}: {error.strerror}.")
    except MemoryError as error:
        _exit_with(
            f"there is not enough memory: {error}. Give a smaller --image-size, fewer samples "
            "(--patient-share), or use a machine with more memory."
        )
    except typer.TyperException as error:
        _exit_with(error.format_message())
    except typer.Abort:
        raise SystemExit(130) from None  # the user pressed Ctrl-C
    raise SystemExit(status)


def _exit_with(text: str) -> NoReturn:
    print(f"evenhand: {text}", file=sys.stderr)
    raise SystemExit(2) from None


def job(
    settings: type[Settings],
    *positional: str,
    listings: tuple[inspect.Parameter, ...] = (),
    distributed: bool = False,
) -> Callable[[Job], Job]:
    """Register a function as the command of its name, with a flag for each setting.

    Parameters
    ----------
    settings
        The class of the job's settings.
    positional
        The settings that are arguments instead of flags.
    listings
        Flags that print a list and stop.
    distributed
        Whether a launcher may run the command in several processes.
    """

    def register(function: Job) -> Job:
        def work(settings: Any, out: Any, overwrite: bool) -> None:
            from evenhand.run_files import refuse_locked

            if not distributed:
                check_alone()
            if out is not None and is_main():
                refuse_locked(out)  # first, because preparing the data takes long
            if isinstance(settings, WorkerSettings):
                expect_workers(settings, f"evenhand.jobs.{function.__name__}.job")
            function(settings, out, overwrite)

        run = with_flags(wraps(function)(work), settings, positional, listings)
        command(function.__name__, help=inspect.getdoc(function))(run)
        return function

    return register


@job(CheckSettings, "data")
def check(settings: CheckSettings, out: Path | None = None, overwrite: bool = False) -> None:
    """Check whether a data set can support a study of fairness.

    It measures the size of groups and outcomes, leaks between splits, and the power to detect a
    gap. Where a flag takes two numbers, the first is the limit of a warning, the second of a
    failure. If any requirement fails, the exit status is 1.
    """
    from evenhand.jobs.check.job import check as work
    from evenhand.jobs.check.job import findings_text, measure_data
    from evenhand.jobs.report import read_check

    if out:
        record = read_check(work(settings, out, overwrite=overwrite))
    else:
        record = measure_data(settings).record()
    typer.echo(findings_text(record))
    if out:
        typer.echo(f"\nreport: {out / 'report.html'}")
    raise typer.Exit(int(record.status == "fail"))


@job(FinetuneSettings, "data", distributed=True)
def finetune(settings: FinetuneSettings, out: Path, overwrite: bool) -> None:
    """Fine-tune a model by one strategy; report on each group."""
    from evenhand.jobs.finetune.job import finetune as work

    _print_run(work(settings, out, overwrite=overwrite))


@job(PretrainSettings, "data")
def pretrain(settings: PretrainSettings, out: Path, overwrite: bool) -> None:
    """Pre-train an encoder without labels.

    Other commands start from it with --weights RUN.
    """
    from evenhand.jobs.pretrain.curve import embeddings_of
    from evenhand.jobs.pretrain.job import ENCODER
    from evenhand.jobs.pretrain.job import pretrain as work
    from evenhand.networks.model import read_model_record

    run = work(settings, out, overwrite=overwrite)
    encoder = read_model_record(run.folder(ENCODER))
    epochs = count_text(encoder.epoch or 0, "epoch")
    typer.echo(f"loss {encoder.loss or 0:.3f} after {epochs}; start from it: --weights {out}")
    if embeddings := embeddings_of(encoder):
        for sentence in embeddings.sentences("The encoder"):
            typer.echo(sentence)


@job(TuneSettings, "data")
def tune(settings: TuneSettings, out: Path, overwrite: bool) -> None:
    """FairTune: search which parts of a network to tune.

    Each trial tunes different parts and is scored by its fairness on validation patients. The best
    trial is compared with the baselines on test patients, who took no part in the search.
    """
    from evenhand.jobs.tune.job import tune as work

    _print_run(work(settings, out, overwrite=overwrite, notify=typer.echo))


@job(PruneSettings, "run")
def prune(settings: PruneSettings, out: Path, overwrite: bool) -> None:
    """FairPrune: remove parameters to make a model fairer.

    The first parameters to go are those that the privileged group needs and the unprivileged
    group does not.
    """
    from evenhand.jobs.prune.job import prune as work

    _print_run(work(settings, out, overwrite=overwrite, notify=typer.echo))


@job(PredictSettings, "run", "data")
def predict(settings: PredictSettings, out: Path, overwrite: bool) -> None:
    """Score new patients with a run's model, and audit the scores.

    Labels must have the class names of RUN's data. A table without labels is scored but not
    audited. By default, the attributes are those of RUN; for data of the same reader, so are
    the label, the columns and the bins. --map gives a column's name in the new table.
    """
    from evenhand.jobs.predict.job import predict as work
    from evenhand.jobs.predict.job import printed_counts

    run = work(settings, out, overwrite=overwrite)
    if run.record.labelled:
        _print_run(run)
    else:
        typer.echo("\n".join(printed_counts(run)))
        typer.echo(f"\nreport: {out / 'report.html'}")


@job(AuditSettings, "inputs", listings=(LIST_METRICS,))
def audit(settings: AuditSettings, out: Path, overwrite: bool) -> None:
    """Measure predictions by group, and report on them.

    A predictions file (CSV or parquet) has a row per sample with these columns: sample_id,
    patient_id, label, score, one for each attribute, and optionally split. --map gives the names
    of your columns; if each sample is a patient, give --map patient_id=sample_id. Several files or
    runs are reported side by side.
    """
    from evenhand.jobs.audit.job import audit as work

    _print_run(work(settings, out, overwrite=overwrite))


@job(CompareSettings, "inputs", listings=(LIST_METRICS,))
def compare(settings: CompareSettings, out: Path, overwrite: bool) -> None:
    """Compare models in pairs, on the same samples.

    `evenhand audit --help` describes predictions files.
    """
    from evenhand.jobs.compare import compare as work

    _print_run(work(settings, out, overwrite=overwrite))


@job(AdjustSettings, "input", listings=(LIST_METRICS,))
def adjust(settings: AdjustSettings, out: Path, overwrite: bool) -> None:
    """Adjust a trained model, without training it again.

    INPUT is a run, or a predictions file with the splits val and test (`evenhand audit --help`
    describes such files). Methods are fitted on validation rows; test rows are scored once. The
    report compares each adjusted model with the unadjusted one: what every group gains and loses,
    and whether the model was levelled down.
    """
    from evenhand.jobs.adjust.job import adjust as work

    _print_run(work(settings, out, overwrite=overwrite))


@job(SimilaritySettings, "runs")
def similarity(settings: SimilaritySettings, out: Path, overwrite: bool) -> None:
    """Compare the layers of two models, for each group."""
    from evenhand.jobs.report import read_similarity
    from evenhand.jobs.similarity.job import similarity as work
    from evenhand.jobs.similarity.job import similarity_text

    run = work(settings, out, overwrite=overwrite)
    typer.echo(similarity_text(read_similarity(run)))
    typer.echo(f"\nreport: {run.root / 'report.html'}")


@job(AssessSettings, "data")
def assess(settings: AssessSettings, out: Path, overwrite: bool) -> None:
    """Assess whether self-supervision makes a model fairer.

    There are five stages and one report: requirements on the data, pre-training, fine-tuning by
    several strategies and supervised training, fairness by group, and similarity of the learned
    representations. Labels must have two classes.
    """
    from evenhand.jobs.assess.job import assess as work

    run = work(settings, out, overwrite=overwrite, notify=typer.echo)
    typer.echo("\n".join(run.record.answer))
    typer.echo(f"\nreport: {out / 'report.html'}")


@job(BenchmarkSettings, "data")
def benchmark(settings: BenchmarkSettings, out: Path, overwrite: bool) -> None:
    """Compare methods, strategies and weights on equal terms.

    Each of them is an entry. The entry erm, the whole network trained without a method, is always
    included. All entries have the same patients, trials, learning rates, epochs and seeds, and
    each patient is tested once. The plan is written before the first fit.
    """
    from evenhand.jobs.benchmark.job import benchmark as work
    from evenhand.jobs.benchmark.outcome import entries_text
    from evenhand.jobs.benchmark.plan import read_plan
    from evenhand.reporting.terminal import print_verdicts
    from evenhand.reporting.verdicts import read_verdicts

    run = work(settings, out, overwrite=overwrite, notify=typer.echo)
    first, *others = read_verdicts(run.root / "verdicts.json")
    typer.echo(f"\n{entries_text(read_plan(run))}\n\n{first.about}: {first.text}")
    if any(other.claim for other in others):
        typer.echo(print_verdicts(others))
    for note in run.record.notes:
        typer.echo(f"\n{note}")
    typer.echo(f"\nreport: {out / 'report.html'}")


RUN = typer.Argument(metavar="RUN", help="folder of a finished run")
MODEL = typer.Option(metavar="TEXT", help="which of the run's models [default: the one it chose]")


@command()
def demo(
    out: Annotated[Path, typer.Option(metavar="PATH", help="folder of the runs")] = Path("demo"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier demo")] = False,
) -> None:
    """Run FairTune on synthetic images, in about two minutes.

    The images are phantoms with a planted bias: in training, a lesion of the minority is malignant
    far more often than one of the majority; among test patients it is not.
    """
    from evenhand.jobs.demo import demo as work

    _print_run(work(out, overwrite=overwrite, notify=typer.echo))


@command()
def report(
    run: Annotated[Path, RUN],
    card: Annotated[
        Path | None, typer.Option(metavar="PATH", help="also write a model card to this file")
    ] = None,
    model: Annotated[str | None, MODEL] = None,
    imports: Imports = None,
) -> None:
    """Recompute the numbers and the report of a finished run."""
    from evenhand.jobs.report import PAGES
    from evenhand.jobs.report import report as work

    opened = work(run, card=card, model=model)
    if opened.head.job in PAGES or not opened.record.labelled:
        typer.echo(f"report: {run / 'report.html'}")
    else:
        _print_run(opened)
    if card:
        typer.echo(f"card: {card}")


@command()
def export(
    run: Annotated[Path, RUN],
    out: Annotated[
        Path, typer.Option(metavar="PATH", help="the file; its card gets the same name with .md")
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="onnx|safetensors", help="format of the file")
    ] = "onnx",
    model: Annotated[str | None, MODEL] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the files")] = False,
    imports: Imports = None,
) -> None:
    """Write a run's model as ONNX or safetensors, with its card."""
    from evenhand.jobs.export import write_model

    _, deviation = write_model(run, out, format=form, model=model, overwrite=overwrite)
    card = out.with_suffix(".md")
    typer.echo(f"{out}: its logits are within {deviation:.1e} of the model's; card: {card}")


command()(units)
command()(methods)
app.add_typer(datasets, name="datasets", invoke_without_command=True)


def _print_run(run: Any) -> None:
    """Print a finished run's main numbers, verdicts and notes, and the path of its report.

    If a launcher started several processes, only the main one prints.
    """
    from evenhand.evaluation.requests import measure_settings
    from evenhand.reporting.terminal import print_table, print_verdicts
    from evenhand.reporting.verdicts import read_verdicts

    if not is_main():
        return
    record = run.record
    typer.echo(print_table(run.metrics, measure_settings(record.settings).split))
    typer.echo(f"\n{print_verdicts(read_verdicts(run.root / 'verdicts.json'))}")
    for note in record.notes:
        typer.echo(f"\n{note}")
    typer.echo(f"\nreport: {run.root / 'report.html'}")
