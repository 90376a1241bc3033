"""Commands and flags that list metrics, units of a network, mitigation methods and data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from evenhand.flags import Sections, import_plugins, make_flag
from evenhand.networks.registry import SERIES_NAMES


def _print_metrics(wanted: bool) -> None:
    from evenhand.metrics import metric_listing

    if wanted:
        typer.echo(metric_listing())
        raise typer.Exit


LIST_METRICS = make_flag(
    "list_metrics",
    bool,
    False,
    "list every metric and comparison, and stop",
    is_eager=True,
    callback=_print_metrics,
)


IMPORT = typer.Option(
    "--import",
    metavar="MODULE",
    help="your own module that registers metrics, networks and the like; repeatable",
    is_eager=True,
    callback=import_plugins,
)
Imports = Annotated[list[str] | None, IMPORT]


def units(
    backbone: Annotated[
        str,
        typer.Argument(
            metavar="BACKBONE",
            help=f"name of a network in timm, {SERIES_NAMES}, a name that a module of --import "
            "registers, or a folder that transformers saved",
        ),
    ],
    family: Annotated[
        str | None, typer.Option(metavar="TEXT", help="list one search space [default: all]")
    ] = None,
    imports: Imports = None,
) -> None:
    """List a network's units: the parts that can be tuned alone."""
    from evenhand.masks.listing import unit_listing

    typer.echo(unit_listing(backbone, family))


def methods(imports: Imports = None) -> None:
    """List the mitigation methods, with their settings."""
    from evenhand.methods.listing import method_listing

    typer.echo(method_listing())


datasets = typer.Typer(help="List the data sets that can be read, or check your own copy.")


@datasets.callback()
def list_datasets(context: typer.Context, imports: Imports = None) -> None:
    """List the data sets that can be read: task, labels, attributes, layout, licence, access."""
    from evenhand.cohort.listing import data_set_listing

    if context.invoked_subcommand is None:
        typer.echo(data_set_listing())


@datasets.command("verify", cls=Sections)
def verify_dataset(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="READER:PATH, as in ham10000:data/ham10000")
    ],
) -> None:
    """Check that a folder holds a data set, and count its patients and samples."""
    from evenhand.cohort.listing import verify

    typer.echo(verify(data))
