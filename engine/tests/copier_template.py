"""A template of a few files, as copier reads it."""

from mergeline.github.git import Git

COPIER = """
_templates_suffix: .jinja
_answers_file: .copier-answers.yml
_exclude: [/copier.yml, /engine, /.git]
_envops: {variable_start_string: "[[", variable_end_string: "]]"}
"""
ANSWERS = "[[ _copier_conf.answers_file ]].jinja"
WORKFLOW = ".github/workflows/watch.yml"


class Template:
    """A git repository that holds a template."""

    def __init__(self, folder, files):
        self.git = Git.init(folder)
        answers = {ANSWERS: "[[ _copier_answers | to_nice_yaml -]]\n"}
        engine = {"engine/pyproject.toml": '[project]\nversion = "1"\n'}
        self.newer({"copier.yml": COPIER, **answers, **engine, **files})

    def newer(self, files):
        """Commit other texts of files, or more files; the commit."""
        for name, text in files.items():
            place = self.git.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return self.git.commit("Newer", *files)
