"""The local GitHub, for every test here that needs one."""

from github_fixtures import hub, models  # noqa: F401 - fixtures
