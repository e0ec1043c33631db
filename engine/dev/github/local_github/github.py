"""Runs the local GitHub: the one thing that the demo and the tests start."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local_github.bare import Bare
from local_github.edge import edge_server
from local_github.emulator import Emulator, emulator
from local_github.hub import BOT_APP, Hub
from local_github.processes import free_port
from local_github.state import Run
from local_github.tls import tls_front
from local_github.tools import Tools, find_tools

OWNER = "acme"
PEOPLE = ("alice", "bob", "carol")
"""alice and carol belong to the organisation; bob has his fork."""
MEMBERS = ("alice", "carol")
_APP_ID, _INSTALLATION = 15368, 1  # GitHub's own number for the App that jobs act as
_PERMISSIONS = (
    "actions",
    "administration",
    "attestations",
    "checks",
    "contents",
    "deployments",
    "issues",
    "metadata",
    "packages",
    "pages",
    "pull_requests",
    "statuses",
)


class LocalGitHub:
    """A running local GitHub at `url`: https, on this machine only."""

    def __init__(self, url: str, folder: Path, tools: Tools, hub: Hub, *, trusted: Path, app_key: str) -> None:
        self.url, self.folder, self.tools, self.hub, self.trusted = url, folder, tools, hub, trusted
        self._app_key = app_key

    @property
    def api_url(self) -> str:
        """Where the REST API is, as on GitHub Enterprise Server."""
        return f"{self.url}/api/v3"

    @property
    def api(self) -> Emulator:
        """The emulator behind the API: what was commented, checked and labelled."""
        return self.hub.emulator

    def environment(self) -> dict[str, str]:
        """The variables with which any tool trusts this GitHub and goes there directly."""
        trusted = str(self.trusted)
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS")
        direct = ",".join(filter(None, (os.environ.get("NO_PROXY", ""), "localhost", "127.0.0.1")))
        return {**dict.fromkeys(names, trusted), "NO_PROXY": direct, "no_proxy": direct}

    def token(self, login: str) -> str:
        """A person's token, which may do all that the person may."""
        return f"ghp_{login}"

    def job_token(self, name: str, permissions: Mapping[str, str]) -> str:
        """A token as a job gets it: of the App `github-actions`, for one repository, with these permissions only."""
        import jwt

        now = int(time.time())
        claims = {"iat": now - 60, "exp": now + 300, "iss": str(_APP_ID)}
        signed = jwt.encode(claims, self._app_key, algorithm="RS256")
        body = {
            "repositories": [name.split("/")[1]],
            "permissions": {key.replace("-", "_"): value for key, value in permissions.items()} | {"metadata": "read"},
        }
        path = f"/app/installations/{_INSTALLATION}/access_tokens"
        return str(self.api.must("POST", path, body, token=signed)["token"])

    def create(self, name: str) -> Bare:
        """An empty repository of the organisation."""
        owner, short = name.split("/")
        self.api.must("POST", f"/orgs/{owner}/repos", {"name": short, "auto_init": False}, token=self.token(MEMBERS[0]))
        return self.hub.add(name)

    def import_ruleset(self, name: str, file: Path) -> None:
        """An administrator imports a ruleset, as the settings page of the repository does."""
        self.hub.settings[name].rulesets.append(json.loads(file.read_text(encoding="utf-8")))

    def fork(self, name: str, login: str) -> Bare:
        """A person's fork."""
        fork = self.api.must("POST", f"/repos/{name}/forks", {}, token=self.token(login))["full_name"]
        return self.hub.add(fork, like=name)

    def remote(self, name: str) -> str:
        """The address to clone from; credentials are not in it."""
        return f"{self.url}/{name}.git"

    def open_pull(
        self, name: str, head: str, *, by: str, title: str, body: str = "", base: str = "main"
    ) -> dict[str, Any]:
        """A person opens a pull request; `head` is `branch`, or `owner:branch` of a fork."""
        from local_github.routes import Call, open_pull

        token = self.token(by)
        words = {"head": head, "base": base, "title": title, "body": body}
        status, told, _ = open_pull(self.hub, Call(name, {}, "", words, token, self.hub.who(token, name)))
        if status != 201:
            raise AssertionError(f"{status} {told}")
        return dict(told)

    def merge(self, name: str, number: int, *, by: str, squash: bool = False) -> tuple[int, str]:
        """A person presses merge: the status, and the merge commit or why not."""
        done = self.hub.merge(name, number, self.hub.who(self.token(by), name), squash=squash)
        return done.status, str(done.body.get("sha") or done.body["message"])

    def approve(self, name: str, number: int, *, by: str) -> None:
        """A person approves a pull request."""
        path = f"/repos/{name}/pulls/{number}/reviews"
        self.api.must("POST", path, {"event": "APPROVE", "body": ""}, token=self.token(by))

    def dispatch(self, name: str, file: str, *, by: str, branch: str = "main", **inputs: str) -> None:
        """A person presses "Run workflow"."""
        from local_github.payloads import dispatch_event

        self.hub.events.append(dispatch_event(self.hub, name, branch, file, inputs=inputs, login=by))

    def take_as_deployed(self, name: str, file: str = "deploy.yml") -> None:
        """Let main's newest commit count as deployed, and forget the push that brought it.

        A repository that is at work has been deployed before. The first deployment builds the image, for which there
        is no container engine here.
        """
        first = next(event for event in self.hub.events if event.repository == name and event.ref == "refs/heads/main")
        self.hub.runs.append(Run(len(self.hub.runs) + 1, Path(file).stem, file, first))
        self.hub.events.clear()

    def comments(self, name: str, number: int) -> list[dict[str, Any]]:
        """The comments of a pull request."""
        return self.api.pages(f"/repos/{name}/issues/{number}/comments", token=self.hub.admin)

    def checks(self, name: str, commit: str) -> dict[str, dict[str, Any]]:
        """The newest check run of each name on a commit."""
        path = f"/repos/{name}/commits/{commit}/check-runs"
        found = self.api.must("GET", path, token=self.hub.admin)["check_runs"]
        return {check["name"]: check for check in found}

    def pull(self, name: str, number: int) -> dict[str, Any]:
        """A pull request as it is now."""
        return dict(self.hub.pull(name, number))


@contextlib.contextmanager
def local_github(folder: Path, tools: Tools | None = None) -> Iterator[LocalGitHub]:
    """Run a local GitHub with an organisation and some people until the block ends.

    Any number may run at once: every port is a free one, and all that is written lies in `folder`.

    Raises:
        MissingToolError: a program is not installed, and cannot be.
        ServerError: a server did not start.
    """
    tools = tools or find_tools()
    folder.mkdir(parents=True, exist_ok=True)
    port, app_key = free_port(), _private_key()
    url = f"https://localhost:{port}"
    with contextlib.ExitStack() as running:
        api = running.enter_context(emulator(tools, folder, _seed(app_key), url))
        hub = Hub(folder / "git", api, f"ghp_{MEMBERS[0]}")
        edge = running.enter_context(edge_server(hub))
        front = folder / "caddy"
        front.mkdir(exist_ok=True)
        trusted = running.enter_context(tls_front(tools.caddy, front, port, edge, api.url))
        yield LocalGitHub(url, folder, tools, hub, trusted=trusted, app_key=app_key)


def _seed(app_key: str, people: Sequence[str] = PEOPLE) -> dict[str, Any]:
    members = [{"login": login, "role": "admin"} for login in MEMBERS]
    may = dict.fromkeys(_PERMISSIONS, "write")
    app = {
        "app_id": _APP_ID,
        "slug": BOT_APP,
        "name": "GitHub Actions",
        "private_key": app_key,
        "permissions": may,
        "installations": [{"installation_id": _INSTALLATION, "account": OWNER, "repository_selection": "all"}],
    }
    return {
        "tokens": {f"ghp_{login}": {"login": login, "scopes": ["repo", "workflow"]} for login in people},
        "github": {
            "users": [{"login": login, "name": login.title(), "email": f"{login}@example.com"} for login in people],
            "orgs": [{"login": OWNER, "name": OWNER.title(), "members": members}],
            "apps": [app],
        },
    }


def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
