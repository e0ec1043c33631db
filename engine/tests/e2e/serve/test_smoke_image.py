"""What is asked of an image before it is pushed, against a real server."""

import os
import signal
import subprocess
import sys

import pytest
import yaml
from serve_samples import PARAMS

from local_github.processes import free_port
from mergeline.errors import ToolError
from mergeline.image.smoke import predict_once, run_command


@pytest.fixture
def server(production):
    """`mergeline serve` on what the manifest names: its address and the digest."""
    model = production.push(seed=1)
    production.release(model)
    (production.root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    port = free_port()
    command = [sys.executable, "-m", "mergeline.cli", "serve", "--port", str(port), "--store", str(production.store)]
    process = subprocess.Popen(
        command,
        cwd=production.root,
        env={**os.environ, "TMPDIR": str(production.root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield f"http://127.0.0.1:{port}", model.digest
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_server_that_answers_with_the_manifest_s_model_passes_and_another_model_does_not(server):
    url, digest = server

    answer = predict_once(url, digest, start_seconds=60)

    assert answer["digest"] == digest
    assert 0 <= answer["score"] <= 1
    with pytest.raises(ToolError, match="the manifest names sha256:0000"):
        predict_once(url, f"sha256:{'0' * 64}")


def test_a_server_that_does_not_start_is_told(tmp_path):
    with pytest.raises(ToolError, match=r"not ready after 0\.5 s"):
        predict_once(f"http://127.0.0.1:{free_port()}", "sha256:0", start_seconds=0.5)


def test_the_image_may_write_nothing_and_is_nobody(tmp_path):
    for name in ("deploy", "store"):
        (tmp_path / name).mkdir()

    command = run_command("image:tag", tmp_path)

    assert {"--read-only", "--cap-drop", "no-new-privileges"} <= set(command)
    assert command[command.index("--user") + 1] == "65534:65534"
    volumes = [command[i + 1] for i, part in enumerate(command) if part == "--volume"]
    assert volumes == [f"{tmp_path / name}:/srv/mergeline/{name}:ro" for name in ("deploy", "store")]
    assert command[-1] == "image:tag"
