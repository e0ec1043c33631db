"""Columns and ids that the params keep out of the journal, or hash."""

from __future__ import annotations

import stat

from journal_samples import NOON, SIGNATURE, answers, append, batch, ids, rows, settings

from mergeline.journal.journal import Journal
from mergeline.journal.labels import Feedback
from mergeline.journal.parquet_export import seal_all


class TestRedaction:
    def sealed_row(self, folder, **redaction):
        journal = Journal(folder, settings(**redaction))
        append(journal.recorder(SIGNATURE), ["UA1"])
        journal.close()
        raw = b"".join(path.read_bytes() for path in (folder / "live").iterdir())
        seal_all(folder)
        (row,) = rows(folder)
        return row, raw

    def test_a_dropped_column_is_written_nowhere(self, folder):
        row, raw = self.sealed_row(folder, drop=["carrier", "tailnum", "scheduled_at"])
        assert "carrier" not in row
        assert "tailnum" not in row
        assert row["_event_time"] is None
        assert b"N14228" not in raw
        assert b"2013-07-01" not in raw

    def test_a_hashed_column_keeps_equal_values_equal_and_hides_them(self, folder, tmp_path):
        row, raw = self.sealed_row(folder, hash=["tailnum", "hour", "origin"])
        again, _ = self.sealed_row(tmp_path / "elsewhere", hash=["tailnum"])
        assert b"N14228" not in raw
        assert len(row["tailnum"]) == len(row["hour"]) == 32
        assert row["tailnum"] != again["tailnum"]  # another deployment, another key

    def test_the_key_survives_a_restart_and_is_private(self, folder):
        for _ in range(2):
            journal = Journal(folder, settings(hash=["tailnum"]))
            append(journal.recorder(SIGNATURE), ["a"])
            journal.close()
        seal_all(folder)
        assert len({row["tailnum"] for row in rows(folder)}) == 1
        assert stat.S_IMODE((folder / "hash.key").stat().st_mode) == 0o600

    def test_the_key_may_come_from_the_environment(self, folder, tmp_path, monkeypatch):
        monkeypatch.setenv("MERGELINE_JOURNAL_KEY", "a secret of this deployment")
        row, _ = self.sealed_row(folder, hash=["tailnum"])
        again, _ = self.sealed_row(tmp_path / "elsewhere", hash=["tailnum"])
        assert row["tailnum"] == again["tailnum"]
        assert not (folder / "hash.key").exists()

    def test_hashed_ids_still_join_labels_with_predictions(self, folder):
        journal = Journal(folder, settings(hash=["flight_id"]))
        append(journal.recorder(SIGNATURE), [5])
        assert journal.feedback([Feedback("5", "true", None)], NOON) == ["recorded"]
        journal.close()
        seal_all(folder)
        assert ids(folder) == ids(folder, "feedback") != ["5"]

    def test_a_missing_value_stays_missing(self, folder):
        journal = Journal(folder, settings(hash=["temp", "carrier"]))
        missing = batch(["a"], [(float("nan"), 8, True, "JFK", None)])
        journal.recorder(SIGNATURE).append(missing, answers(["a"]), ("stable",), NOON)
        journal.close()
        seal_all(folder)
        assert (rows(folder)[0]["temp"], rows(folder)[0]["carrier"]) == (None, None)

    def test_a_name_that_is_no_column_is_told_with_the_nearest_one(self, folder):
        journal = Journal(folder, settings(hash=["tailnumm"], drop=["flight_id"]))
        journal.recorder(SIGNATURE)
        warnings = journal.status()["warnings"]
        assert any("'tailnumm'; did you mean 'tailnum'?" in text for text in warnings)
        assert any("hash it instead" in text for text in warnings)
