"""Commits that a person pushes to a forge in a folder."""


def push(work, forge, branch, text, *, file="file", start="main"):
    """Commit `text` to a new branch from `start`, and push it."""
    work.switch(branch, start=start)
    (work.folder / file).write_text(text)
    commit = work.commit(f"{branch} changes {file}", file)
    work.push(forge.url, branch, expected=work.remote_head(forge.url, branch))
    return commit


def push_to_main(work, forge, text, file="file"):
    start = work.remote_head(forge.url, "main")
    work.run("fetch", "--quiet", forge.url, "main")
    work.switch("main", start=start)
    (work.folder / file).write_text(text)
    commit = work.commit("straight to main", file)
    work.push(forge.url, "main", expected=start)
    return commit
