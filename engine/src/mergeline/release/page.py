"""Writes the page of production: what serves now, and everything that happened before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from mergeline.documents import Frozen
from mergeline.home import model_option
from mergeline.manifest.schema import GAIN, Manifest, Spec
from mergeline.manifest.transitions import short
from mergeline.release.history import Event, Moment
from mergeline.report.document import Chart, ChartSeries, State, visible
from mergeline.report.html import fill
from mergeline.report.words import decimals, figure

INDEX = "index.html"
_MARKS = {
    Event.FIRST: "🌱",
    Event.RELEASE: "🚀",
    Event.ROLLBACK: "⏪",
    Event.ROLLOUT: "🔀",
    Event.HOLD: "✋",
    Event.LIFT: "🔓",
}
_WORDS = 300
NEWEST = 24
"""So many changes are drawn in the timeline; the table below it has all."""

_WIDTH, _LABEL, _ROW, _TOP = 720, 84, 26, 6


class Place(Frozen):
    """Where the repository can be looked at; empty outside GitHub, and then nothing is a link."""

    server_url: str = ""
    repository: str = ""

    @property
    def url(self) -> str:
        """The repository's address, or an empty string."""
        return f"{self.server_url}/{self.repository}" if self.server_url and self.repository else ""


class Serves(NamedTuple):
    """What one environment serves, and since when."""

    environment: str
    spec: Spec
    since: datetime | None


class Timeline(NamedTuple):
    """A line for each version, a column for each change, oldest first, in the units of its SVG.

    A row is a version, the middle of its line, and its bars: what it was (`served` or `tried`), place, width and title.
    """

    rows: list[tuple[int, float, list[tuple[str, float, float, str]]]]
    first: str
    last: str
    height: int
    width: int = _WIDTH
    label: int = _LABEL


def report_name(digest: str) -> str:
    """The path of a model's report, next to the page."""
    return f"reports/{short(digest)}.html"


def write_page(
    manifest: Manifest,
    moments: Sequence[Moment],
    place: Place,
    reports: Collection[str],
    environments: Sequence[Serves] = (),
    *,
    model: str = "",
) -> str:
    """The page as HTML: no script, nothing fetched.

    Args:
        manifest: what is asked to be served now.
        moments: what happened, newest first.
        place: where links lead.
        reports: the reports that are next to the page, by `report_name`.
        environments: what each serves, in the order in which a model goes through them; none where there is one.
        model: `Home.model`, for the commands that are shown.
    """
    name, stable = manifest.metadata.name, manifest.spec.stable
    names = dict.fromkeys(name for moment in moments for name in moment.serving.evidence.metrics)
    return fill(
        "production.html.jinja",
        f"{name}: version {stable.version} is serving" if stable else name,
        "accepted" if stable else "inconclusive",
        name=name,
        spec=manifest.spec,
        environments=environments,
        model=model,
        option=model_option(model),
        stable=stable,
        since=_since(manifest, moments),
        moments=moments,
        place=place,
        reports=reports,
        places={name: _places(name, moments) for name in names},
        chart=_chart(moments),
        timeline=make_timeline(moments) if len(moments) > 1 else None,
        marks=_MARKS,
        short=short,
        report_of=report_name,
        figure=figure,
        words=_words,
        notes=_notes,
    )


class Served(NamedTuple):
    """What one of several models serves, and how it does there; `live` is empty where nobody has looked."""

    manifest: Manifest
    moments: Sequence[Moment]
    live: str = ""


def write_overview(models: Mapping[str, Served]) -> str:
    """The first page of several models, each with a link to its own page at `NAME/`."""
    rows = []
    for name, (manifest, moments, live) in models.items():
        rows.append((name, manifest.spec, _since(manifest, moments), _words(live)))
    serving = sum(1 for one in models.values() if one.manifest.spec.stable is not None)
    state: State = "accepted" if serving == len(models) else "inconclusive"
    title = f"{serving} of {len(models)} models are serving"
    return fill("models.html.jinja", title, state, heading=title, rows=rows, short=short, figure=figure)


def make_timeline(moments: Sequence[Moment]) -> Timeline:
    """What was stable after each of the newest changes, and what rolled out next to it.

    Args:
        moments: newest first, as `history` gives them; two or more.
    """
    shown = list(reversed(moments[:NEWEST]))
    versions = sorted({release.version for moment in shown for release in moment.releases}, reverse=True)
    step = (_WIDTH - _LABEL) / len(shown)
    bars: dict[int, list[tuple[str, float, float, str]]] = {version: [] for version in versions}
    for at, moment in enumerate(shown):
        for release in moment.releases:
            served = moment.serving.version == release.version
            state = "stable" if served else f"{moment.strategy}, next to version {moment.serving.version}"
            title = f"{state}, since {moment.when:%-d %b %Y, %H:%M} UTC ({moment.event.value})"
            bars[release.version].append(("served" if served else "tried", _LABEL + at * step + 1, step - 2, title))
    rows = [(version, _TOP + (place + 0.5) * _ROW, bars[version]) for place, version in enumerate(versions)]
    first, last = (f"{moment.when:%-d %b %Y}" for moment in (shown[0], shown[-1]))
    return Timeline(rows, first, last, _TOP + _ROW * len(versions) + 22)


def _since(manifest: Manifest, moments: Sequence[Moment]) -> Moment | None:
    """When the stable model became so the last time."""
    stable = manifest.spec.stable
    return next((one for one in _releases(moments) if stable and one.serving.digest == stable.digest), None)


def _releases(moments: Sequence[Moment]) -> list[Moment]:
    return [moment for moment in moments if moment.event in (Event.FIRST, Event.RELEASE, Event.ROLLBACK)]


def _chart(moments: Sequence[Moment]) -> Chart | None:
    """How much better each release was than the model that it was judged against; two make a line.

    Metrics of two releases are of two holdouts, and say nothing about which is better: a gain is of the same rows.
    """
    made = [moment.serving for moment in reversed(_releases(moments)) if moment.event is not Event.ROLLBACK]
    made = [release for release in made if GAIN in release.evidence.metrics]
    if len(made) < 2:
        return None
    x = tuple(float(release.version) for release in made)
    y = tuple(float(release.evidence.metrics[GAIN]) for release in made)
    zero = (0.0,) * len(x)
    series = (ChartSeries("gain", x, y, y), ChartSeries("no better than the model before", x, zero, zero))
    of_what = "gain in the gate's metric"
    return Chart("Gain of each version over the model before", "version", of_what, x, series, whole=True)


def _notes(moment: Moment) -> tuple[str, ...]:
    """What happened to a candidate, and why."""
    if moment.event is Event.ROLLOUT and moment.candidate is not None:
        return (f"version {moment.candidate.version} as {moment.strategy}", *moment.reasons)
    ended = (f"the rollout of version {moment.ended} is aborted",) if moment.ended is not None else ()
    return (*ended, *moment.reasons)


def _places(name: str, moments: Sequence[Moment]) -> int:
    """The decimals of one column."""
    values = (moment.serving.evidence.metrics.get(name) for moment in moments)
    return decimals(*(float(value) for value in values if value is not None))


def _words(text: str) -> str:
    """Free text, with every character visible."""
    return visible(text, _WORDS)
