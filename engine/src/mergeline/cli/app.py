"""The application that every verb is added to, and what verbs have in common."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="mergeline",
    help="Pull requests train and judge scikit-learn models, and the merge is the release.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

BaseOption = Annotated[
    str | None, typer.Option("--base", help="Branch or commit to be merged into; main if not given.")
]
Json = Annotated[bool, typer.Option("--json", help="Write the result as JSON on standard output.")]
