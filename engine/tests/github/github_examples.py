"""Repositories on the local GitHub, and a proxy in front of its API that answers as GitHub does on a bad day."""

import contextlib
import http.server
import itertools
import json
import re
import ssl
import urllib.error
import urllib.request

from loopback import answering
from mergeline.github.actions import Job
from mergeline.github.client import GitHubClient
from mergeline.github.forge import GitHubForge
from mergeline.github.git import Git

_numbers = itertools.count(1)

ALL = {"contents": "write", "pull-requests": "write", "issues": "write", "checks": "write"}


class Models:
    """A repository, a clone of it, and forges that act on it with tokens of one's choice."""

    def __init__(self, hub, folder, monkeypatch):
        self.hub, self.name, self.monkeypatch = hub, f"acme/models-{next(_numbers)}", monkeypatch
        hub.create(self.name)
        self.clone = Git.init(folder / "clone")
        self.clone.run("remote", "add", "origin", hub.remote(self.name))
        self.push("main", "a\n", start=None)

    def push(self, branch, text, *, file="file", start="main", by="alice", remote="origin"):
        """A person commits `text` to a branch and pushes it; the commit.

        The objects are copied and not sent: test_local.py pushes over HTTP, which takes ten times as long.
        """
        if start is not None:
            self.clone.switch(branch, start=start)
        (self.clone.folder / file).parent.mkdir(exist_ok=True)
        (self.clone.folder / file).write_text(text)
        commit = self.clone.commit(f"{branch} changes {file}", file)
        address = self.clone.run("remote", "get-url", remote)
        name = address.removeprefix(f"{self.hub.url}/").removesuffix(".git")
        hub, ref = self.hub.hub, f"refs/heads/{branch}"
        with hub.moving(name, hub.who(self.hub.token(by), name)) as repository:
            repository.git.run("fetch", "--quiet", str(self.clone.folder), f"+{ref}:{ref}")
        self.clone.run("update-ref", f"refs/remotes/{remote}/{branch}", commit)
        return commit

    def pull(self, branch="topic", text="b\n"):
        """A person's pull request."""
        self.push(branch, text)
        return self.hub.open_pull(self.name, branch, by="alice", title=f"Change {branch}")["number"]

    def fork_pull(self, branch="theirs"):
        """A pull request from bob's fork: its number, and the fork's name."""
        fork = self.hub.fork(self.name, "bob").name
        with contextlib.suppress(Exception):
            self.clone.run("remote", "remove", "fork")
        self.clone.run("remote", "add", "fork", self.hub.remote(fork))
        self.push(branch, "theirs\n", by="bob", remote="fork")
        opened = self.hub.open_pull(self.name, f"bob:{branch}", by="bob", title="From a fork")
        return opened["number"], fork

    def job(self, permissions=ALL, **fields):
        """A job on this repository whose token has these permissions only."""
        token = self.hub.job_token(self.name, permissions)
        urls = {"server_url": self.hub.url, "api_url": self.hub.api_url}
        return Job(**{"repository": self.name, "token": token, **urls, **fields})

    def forge(self, permissions=ALL, *, patience_seconds=5, root=None, **fields):
        """A forge as such a job has it."""
        job = self.job(permissions, **fields)
        return GitHubForge(GitHubClient(job, self.name, patience_seconds=patience_seconds, root=root))

    def forge_of(self, login, **fields):
        """A forge with a person's own token."""
        return self.forge(token=self.hub.token(login), **fields)

    def say(self, number, body, *, by="alice"):
        """A person comments."""
        path = f"/repos/{self.name}/issues/{number}/comments"
        return self.hub.api.must("POST", path, {"body": body}, token=self.hub.token(by))

    def close(self, number, *, by="alice"):
        """A person closes a pull request."""
        path = f"/repos/{self.name}/pulls/{number}"
        self.hub.api.must("PATCH", path, {"state": "closed"}, token=self.hub.token(by))

    def comments(self, number):
        return self.hub.comments(self.name, number)


class Fault:
    """An answer in place of GitHub's: to the next `times` requests that fit; `done` lets GitHub do the thing first."""

    def __init__(self, method, path, status, message="", *, headers=None, times=1, done=False, errors=()):
        self.method, self.path, self.status, self.times, self.done = method, re.compile(path), status, times, done
        self.headers = headers or {}
        self.body = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
        if errors:
            self.body["errors"] = list(errors)


@contextlib.contextmanager
def bad_day(models, *faults):
    """A forge whose GitHub has these faults: the job's addresses, and the requests that came."""
    hub, seen = models.hub, []
    trusted = ssl.create_default_context(cafile=str(hub.trusted))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            seen.append((self.command, self.path))
            fault = next((one for one in faults if self._fits(one)), None)
            if fault is None:
                self._send(*self._forward(body))
                return
            fault.times -= 1
            if fault.done:
                self._forward(body)
            self._send(fault.status, fault.headers, self._here(json.dumps(fault.body).encode()))

        def _fits(self, fault):
            return fault.times > 0 and fault.method == self.command and fault.path.search(self.path)

        def _forward(self, body):
            headers = {
                name: self.headers[name] for name in ("Authorization", "Accept", "Content-Type") if name in self.headers
            }
            address = hub.url + self.path
            request = urllib.request.Request(address, body or None, headers, method=self.command)  # noqa: S310 - loopback
            try:
                with opener.open(request, timeout=30) as told:
                    return told.status, {"Link": told.headers.get("Link", "")}, self._here(told.read())
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, dict(error.headers), self._here(error.read())

        def _here(self, content):
            return content.replace(hub.url.encode(), f"http://localhost:{server.server_port}".encode())

        def _send(self, status, headers, content):
            self.send_response(status)
            for name, value in headers.items():
                if value and name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                    self.send_header(name, value.replace(hub.url, f"http://localhost:{server.server_port}"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    for verb in ("GET", "POST", "PATCH", "PUT", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.answer)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with answering(server):
        yield {"api_url": f"http://localhost:{server.server_port}/api/v3"}, seen
