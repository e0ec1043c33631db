"""Writes the page of production: what serves now, and everything that happened before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import NamedTuple

from mergeline.documents import Frozen
from mergeline.manifest.schema import Hold, Manifest, Release
from mergeline.manifest.transitions import short
from mergeline.release.history import Event, Moment
from mergeline.release.timeline import timeline_svg
from mergeline.report.charts import chart_svg, legend_html
from mergeline.report.document import Chart, ChartSeries, visible
from mergeline.report.html import frame
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


class Place(Frozen):
    """Where the repository can be looked at; empty outside GitHub, and then nothing is a link."""

    server_url: str = ""
    repository: str = ""

    @property
    def url(self) -> str:
        """The repository's address, or an empty string."""
        return f"{self.server_url}/{self.repository}" if self.server_url and self.repository else ""


class _Row(NamedTuple):
    name: str
    kind: str
    html: str


def report_name(digest: str) -> str:
    """Where the report of a model lies beside the page."""
    return f"reports/{short(digest)}.html"


def write_page(manifest: Manifest, moments: Sequence[Moment], place: Place, reports: Collection[str]) -> str:
    """The page as HTML: no script, nothing fetched.

    Args:
        manifest: what is asked to be served now.
        moments: what happened, newest first.
        place: where links lead.
        reports: the reports that lie beside the page, by `report_name`.
    """
    name, stable = manifest.metadata.name, manifest.spec.stable
    if stable is None:
        return frame(name, "inconclusive", f"<code>{name}</code> serves nothing yet", "No model was released.", "")
    since = next((moment for moment in _releases(moments) if moment.serving.digest == stable.digest), None)
    why = f"{escape(short(stable.digest))}"
    if since is not None:
        why = f"since {_time(since)} by {_pull(since, place) or _commit(since, place)} · <code>{why}</code>"
    body = "\n".join(
        [
            _facts(manifest, stable, reports),
            *_held(manifest.spec.holds),
            "<h2>Take it back</h2>",
            *_back(manifest, stable, place),
            *_chart(moments),
            "<h2>History</h2>",
            *_timeline(moments),
            _table(moments, place, reports),
        ]
    )
    heading = f"<strong>✅ Serving:</strong> <code>{escape(name)}</code> version {stable.version}"
    return frame(f"{name}: version {stable.version} is serving", "accepted", heading, why, body)


def _releases(moments: Sequence[Moment]) -> list[Moment]:
    return [moment for moment in moments if moment.event in (Event.FIRST, Event.RELEASE, Event.ROLLBACK)]


def _facts(manifest: Manifest, stable: Release, reports: Collection[str]) -> str:
    metrics = stable.evidence.metrics
    facts = [(metric, f"<strong>{escape(figure(value))}</strong>") for metric, value in metrics.items()]
    previous, candidate = manifest.spec.previous, manifest.spec.candidate
    if candidate is not None:
        facts.append(("rolling out", f"version {candidate.version}, {escape(manifest.spec.rollout.strategy)}"))
    if previous is not None:
        facts.append(("previous", f"version {previous.version}"))
    if report_name(stable.digest) in reports:
        facts.append(("report", _link(report_name(stable.digest), "why it was accepted")))
    pairs = "".join(f"<div><dt>{escape(key)}</dt><dd>{value}</dd></div>" for key, value in facts)
    return f'<dl class="facts">{pairs}</dl>'


def _held(holds: Sequence[Hold]) -> list[str]:
    if not holds:
        return []
    items = "".join(f"<li><code>{escape(short(hold.digest))}</code>: {_words(hold.reason)}</li>" for hold in holds)
    return [f'<section class="alert warning"><strong>Not proposed again</strong><ul>{items}</ul></section>']


def _back(manifest: Manifest, stable: Release, place: Place) -> list[str]:
    previous = manifest.spec.previous
    if previous is None:
        return ["<p>There is no previous model to go back to.</p>"]
    command = "mergeline rollback --pull-request 'what failed'"
    if place.repository:
        command = f"gh workflow run rollback.yml --repo {place.repository} --field reason='what failed'"
    words = f"This opens a pull request that serves version {previous.version} again and holds version {stable.version}"
    return [
        f"<p>{words}; <code>--{'field version=' if place.repository else 'to '}N</code> goes further back.</p>",
        f'<pre tabindex="0"><code>{escape(command)}</code></pre>',
    ]


def _timeline(moments: Sequence[Moment]) -> list[str]:
    """What served after each change; two changes make a history."""
    if len(moments) < 2:
        return []
    boxes = "".join(
        '<li><svg class="key" viewBox="0 0 28 8" aria-hidden="true">'
        f'<rect class="{kind}" width="28" height="8" rx="2"/></svg>{words}</li>'
        for kind, words in (("served", "stable"), ("tried", "candidate: canary or shadow"))
    )
    return [f'<figure><ul class="legend">{boxes}</ul>{timeline_svg(moments)}</figure>']


def _chart(moments: Sequence[Moment]) -> list[str]:
    """The metric that every release names, over the releases; two make a line."""
    made = [moment.serving for moment in reversed(_releases(moments)) if moment.event is not Event.ROLLBACK]
    if len(made) < 2:
        return []
    shared = [name for name in made[-1].evidence.metrics if all(name in one.evidence.metrics for one in made)]
    if not shared:
        return []
    name = shared[0]
    x = tuple(float(release.version) for release in made)
    y = tuple(float(release.evidence.metrics[name]) for release in made)
    chart = Chart(f"{name} of each version", "version", name, x, (ChartSeries(name, x, y, y),), whole=True)
    said = "Each version was measured on the newest data of its own time: the line shows the trend, not a contest."
    drawn = f"<figure>{legend_html(chart)}{chart_svg(chart, 'versions')}</figure>"
    return [f"<h2>{escape(name)} of each version</h2>", drawn, f"<p><small>{said}</small></p>"]


def _table(moments: Sequence[Moment], place: Place, reports: Collection[str]) -> str:
    names = list(dict.fromkeys(name for moment in moments for name in moment.serving.evidence.metrics))
    places = {name: _places(name, moments) for name in names}
    rows = [_row(moment, places, place, reports) for moment in moments]
    heads = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind, _ in rows[0]) if rows else ""
    body = "\n".join(f"<tr>{''.join(f'<td{kind}>{html}</td>' for _, kind, html in row)}</tr>" for row in rows)
    return (
        '<div class="scroll" role="region" tabindex="0" aria-label="History of production"><table>'
        f"<caption>History of production, newest first</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(moment: Moment, places: dict[str, int], place: Place, reports: Collection[str]) -> list[_Row]:
    number, serving = ' class="number"', moment.serving
    what = f'<span class="event">{_MARKS[moment.event]} {moment.event.value}</span>' + "".join(
        f"<br><small>{_words(line)}</small>" for line in (*_rolled(moment), *moment.reasons)
    )
    digest = f"<code>{escape(short(serving.digest))}</code>"
    if report_name(serving.digest) in reports:
        digest += f" {_link(report_name(serving.digest), 'report')}"
    values = serving.evidence.metrics
    shown = [
        _Row(name, number, escape(figure(values[name], places[name])) if name in values else "") for name in places
    ]
    return [
        _Row("when", "", _time(moment)),
        _Row("what", ' class="what"', what),
        _Row("version", number, str(serving.version)),
        *shown,
        _Row("model", "", digest),
        _Row("by", "", _pull(moment, place) or _commit(moment, place)),
        _Row("undo by hand", "", "<br>".join(f'<code class="command">{escape(way)}</code>' for way in moment.undo)),
    ]


def _rolled(moment: Moment) -> list[str]:
    """What became of a candidate."""
    if moment.event is Event.ROLLOUT and moment.candidate is not None:
        return [f"version {moment.candidate.version} as {moment.strategy}"]
    return [f"version {moment.ended} is taken off"] if moment.ended is not None else []


def _places(name: str, moments: Sequence[Moment]) -> int:
    """The decimals of one column."""
    values = (moment.serving.evidence.metrics.get(name) for moment in moments)
    return decimals(*(float(value) for value in values if value is not None))


def _time(moment: Moment) -> str:
    return f'<time datetime="{moment.when.isoformat()}">{moment.when:%-d %b %Y, %H:%M} UTC</time>'


def _pull(moment: Moment, place: Place) -> str:
    if moment.pull is None:
        return ""
    shown = f"#{moment.pull}"
    return _link(f"{place.url}/pull/{moment.pull}", shown) if place.url else shown


def _commit(moment: Moment, place: Place) -> str:
    shown = moment.commit[:12]
    return _link(f"{place.url}/commit/{moment.commit}", shown) if place.url else f"<code>{shown}</code>"


def _link(address: str, words: str) -> str:
    return f'<a href="{escape(address)}">{escape(words)}</a>'


def _words(text: str) -> str:
    """Free text, with every character visible."""
    return escape(visible(text, _WORDS))
