from __future__ import annotations

import psutil
import pytest

from mergeline.serve import containment
from mergeline.serve.containment import available_memory

STATISTICS = "anon 190000000\nactive_file 60000000\ninactive_file 40000000\nfile 110000000\n"


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Writes what a container's memory is, as Linux tells it."""
    monkeypatch.setattr(containment, "CGROUPS", ((str(tmp_path), "memory.max", "memory.current"),))

    def write(most: str, taken: str) -> None:
        for name, content in (("memory.max", most), ("memory.current", taken), ("memory.stat", STATISTICS)):
            (tmp_path / name).write_text(content)

    return write


def test_in_a_container_memory_is_what_it_may_take_and_files_in_memory_count_as_free(container):
    container("500000000\n", "300000000\n")
    assert available_memory() == (500_000_000, 300_000_000)


def test_a_full_container_has_none(container):
    container("200000000\n", "400000000\n")
    assert available_memory() == (200_000_000, 0)


@pytest.mark.parametrize("most", ["max\n", "", str(2**63)])
def test_without_a_bound_memory_is_the_machines(container, most):
    container(most, "300000000\n")
    total, free = available_memory()
    assert total == psutil.virtual_memory().total
    assert 0 < free < total
