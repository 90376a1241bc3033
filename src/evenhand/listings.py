"""What the command line lists: metrics, the units of a network, mitigation methods, data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from evenhand.flags import Sections, flag, import_given
from evenhand.networks.registry import SERIES_NAMES


def _print_metrics(wanted: bool) -> None:
    from evenhand.metrics import metric_listing

    if wanted:
        typer.echo(metric_listing())
        raise typer.Exit


LIST_METRICS = flag(
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
    help="module of your own that registers metrics, networks and the like; repeatable",
    is_eager=True,
    callback=import_given,
)
Imports = Annotated[list[str] | None, IMPORT]


def units(
    backbone: Annotated[
        str,
        typer.Argument(
            metavar="BACKBONE",
            help=f"timm's name of the network, {SERIES_NAMES}, the name of one that --import "
            "registers, or a folder that transformers saved",
        ),
    ],
    family: Annotated[
        str | None, typer.Option(metavar="TEXT", help="one search space only [default: all]")
    ] = None,
    imports: Imports = None,
) -> None:
    """List a network's units: its parts that can be tuned alone."""
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
    """Check that a folder holds a data set, and count what is in it."""
    from evenhand.cohort.listing import verify

    typer.echo(verify(data))
