from __future__ import annotations

from journal_samples import NOON, SIGNATURE, answers, append, settings
from prometheus_client import CollectorRegistry

from mergeline.journal.journal import Journal
from mergeline.journal.labels import Feedback
from mergeline.journal.metrics import JournalMetrics


def test_counts_are_handed_on_once_and_states_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("mergeline.journal.wal_writer.RETRY_SECONDS", 0.0)
    registry = CollectorRegistry()
    journal = Journal(tmp_path / "journal", settings(), after_tick=JournalMetrics(registry).update)
    ticket = append(journal.recorder(SIGNATURE), ["a", "b"])
    journal.shadow(ticket, answers(["a", "b"], "candidate"))
    journal.feedback([Feedback("a", "true", None), Feedback("never", "true", None)], NOON)
    journal.tend()
    journal.tend()

    def value(name, **labels):
        return registry.get_sample_value(f"mergeline_journal_{name}", labels)

    assert value("records_total", kind="prediction", outcome="written") == 2
    assert value("records_total", kind="prediction", outcome="lost") == 0
    assert value("records_total", kind="shadow", outcome="written") == 2
    assert value("records_total", kind="feedback", outcome="written") == 2
    assert value("odd_feedback_total", why="unknown") == 1
    assert value("writing") == 1
    assert value("last_pass_timestamp_seconds") == 0
    journal.close()
    journal.tend()
    assert value("writing") == 0
