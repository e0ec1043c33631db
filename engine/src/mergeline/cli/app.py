"""The application that every verb is added to, and what verbs have in common."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

FIRST = ("propose", "gate", "serve", "watch", "retrain", "rollout", "promote", "rollback", "hold", "verify", "doctor")
"""The verbs of the loop: what a person needs, in the order of the loop."""
MOVED = {
    "conclude": "mergeline rollout status, rollout promote or rollout abort",
    "lift": "mergeline hold remove",
    "pin": "mergeline ci scope",
    **{verb: f"mergeline ci {verb}" for verb in ("apply", "attested", "check", "comment", "newest", "page", "plan")},
}
"""Verbs of earlier versions, and what to call instead."""


class Verbs(TyperGroup):
    """Lists the verbs of the loop first, and names the new verb to whoever types an old one."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs in two lists."""
        shown = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        shown = {name: verb for name, verb in shown.items() if verb is not None and not verb.hidden}
        others = sorted(name for name in shown if name not in FIRST)
        for title, names in (("Verbs", FIRST), ("Stages of the pipeline, and what is needed less often", others)):
            with formatter.section(title):
                formatter.write_dl(
                    [(name, verb.get_short_help_str(100)) for name in names if (verb := shown.get(name)) is not None]
                )

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb.

        Raises:
            UsageError: there is none of that name; of an old name, the error says the new one.
        """
        if args and args[0] in MOVED and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"{args[0]!r} has another name: {MOVED[args[0]]}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="mergeline",
    cls=Verbs,
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
EnvironmentOption = Annotated[
    str, typer.Option("--environment", help="One of release.environments; the last one, production, if not given.")
]
PullRequestOption = Annotated[
    bool, typer.Option("--pull-request", help="Change nothing here: open the pull request on the base branch.")
]
