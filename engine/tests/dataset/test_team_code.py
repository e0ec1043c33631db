"""The team's code is what its files say now."""

import os
import sys

from mergeline.dataset.schema import load_attribute


def test_a_change_that_leaves_size_and_second_alike_is_read(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    package, module = tmp_path / "orders_here", tmp_path / "orders_here" / "model.py"
    package.mkdir()
    (package / "__init__.py").touch()
    for value in (1, 2):
        module.write_text(f"C = {value}\n")
        os.utime(module, (1_700_000_000, 1_700_000_000))
        assert load_attribute("orders_here.model:C", "model.factory") == value
        assert list(package.glob("__pycache__/model.*.pyc"))
        for name in ("orders_here.model", "orders_here"):
            del sys.modules[name]
