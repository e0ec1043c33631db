"""Errors of params.yaml: each names the line, the key and the nearest right one."""

import itertools
import re
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergeline.documents import parse_json, parse_plain, parse_tree, yaml_reader
from mergeline.errors import DocumentError, ParamsError
from mergeline.params import read_params

PARAMS = (Path(__file__).parents[2] / "params.yaml").read_text()


def broken(tmp_path, old, new):
    assert old in PARAMS
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.replace(old, new, 1))
    line = PARAMS[: PARAMS.index(old)].count("\n") + 1
    with pytest.raises(ParamsError) as caught:
        read_params(path)
    return str(caught.value), line


class TestParamsInTheRepository:
    def test_params_in_the_repository_are_valid(self):
        assert read_params(Path(__file__).parents[2] / "params.yaml").name == "flights"

    def test_every_key_has_a_comment_on_its_line_or_the_one_that_follows(self):
        lines = [line for line in PARAMS.splitlines() if ":" in line.split("#")[0]]
        bare = [line for line in lines if "#" not in line and line.split("#")[0].rstrip()[-1] != ":"]
        assert [line.strip() for line in bare if not line.strip().startswith("[")] == []


class TestBrokenParams:
    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("holdout: 1", "holdot: 1", "unknown key `split.holdot`"),
            ("holdout: 1", "holdot: 1", "did you mean `holdout`?"),
            ("  margin: 0.005", "  margin: -1", "`gate.margin`: input should be greater than 0 (found -1)"),
            ("  seed: 7", "  seed: seven", "`model.seed`: input should be a valid integer"),
            ("task: binary", "task: clustering", "`task`: input should be 'binary', 'multiclass' or 'regression'"),
            ("metric: roc_auc ", "metric: auc ", "`gate.metric`: no metric 'auc' for a binary task"),
            ("metadata: [] ", "metadata: [late] ", "`data.metadata`: column 'late' has two roles"),
            (
                "factory: flights.model:pipeline",
                "factory: flights.model",
                "`model.factory`: not a place in a package (found 'flights.model')",
            ),
            ("soak: 1d ", "soak: 5 parsecs ", "`release.soak`: not a length of time (found '5 parsecs')"),
            ("soak: 1d ", "soak: 5 parsecs ", "write a whole number and its unit (m, h, d or w), as 90m, 24h, 7d"),
            ("hold: 15m}", "hold: soon}", "write a whole number and its unit (s, m, h or d), as 30s, 15m, 2h"),
            ('policy: "off"', "policy: maybe", "`release.signing.policy`: input should be 'off' or 'required'"),
            ("leak_score: 0.95", "leak_score: 95", "`validation.leak_score`: input should be less than or equal to 1"),
            ("max_records: 1000", "max_records: 0", "`serve.max_records`"),
        ],
    )
    def test_message_names_line_key_and_rule(self, tmp_path, old, new, says):
        message, line = broken(tmp_path, old, new)
        assert f"params.yaml:{line}:" in message
        assert says in message

    def test_a_missing_key_is_named(self, tmp_path):
        message, _ = broken(tmp_path, "  target: late ", "  # ")
        assert "`data.target` is missing" in message

    def test_a_repeated_key_is_refused(self, tmp_path):
        message, _ = broken(tmp_path, "task: binary", "task: binary\ntask: regression")
        assert 'duplicate key "task"' in message

    def test_broken_yaml_names_its_line(self, tmp_path):
        message, line = broken(tmp_path, "task: binary", "task: [binary")
        assert "not valid YAML" in message
        assert f"params.yaml:{line + 2}" in message

    def test_an_empty_file_is_refused(self, tmp_path):
        (tmp_path / "params.yaml").write_text("")
        with pytest.raises(ParamsError, match="expected keys and values"):
            read_params(tmp_path / "params.yaml")

    def test_a_missing_file_says_how_to_get_it_back(self, tmp_path):
        with pytest.raises(ParamsError, match="git checkout"):
            read_params(tmp_path / "params.yaml")

    def test_bytes_that_are_no_text_are_refused(self, tmp_path):
        (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ParamsError, match="cannot be read"):
            read_params(tmp_path / "params.yaml")

    def test_every_problem_is_told_at_once(self, tmp_path):
        text = PARAMS.replace("holdout: 1", "holdout: 0", 1).replace("  seed: 7", "  seed: x", 1)
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(ParamsError) as caught:
            read_params(tmp_path / "params.yaml")
        assert "split.holdout" in str(caught.value)
        assert "model.seed" in str(caught.value)


class TestNumbers:
    def test_scientific_notation_is_a_number(self, tmp_path):
        (tmp_path / "params.yaml").write_text(PARAMS.replace("learning_rate: 0.1", "learning_rate: 1e-3"))
        assert read_params(tmp_path / "params.yaml").model.arguments["learning_rate"] == 0.001

    @pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e400"])
    @pytest.mark.parametrize("key", ["margin", "poll_seconds", "max_volume_change"])
    def test_one_that_is_not_finite_is_refused(self, tmp_path, key, number):
        value = re.search(rf"\n  {key}: ([\d.]+)", PARAMS)
        message, line = broken(tmp_path, value[0], f"\n  {key}: {number}")
        assert "finite" in message
        assert f"params.yaml:{line + 1}: " in message

    def test_an_argument_of_the_pipeline_may_be_infinite(self, tmp_path):
        (tmp_path / "params.yaml").write_text(PARAMS.replace("learning_rate: 0.1", "learning_rate: .inf"))
        assert read_params(tmp_path / "params.yaml").model.arguments["learning_rate"] == float("inf")

    def test_a_section_that_dvc_watches_must_be_there(self, tmp_path):
        text = PARAMS.replace("\nvalidation:", "\nvalidatoin:")
        (tmp_path / "params.yaml").write_text(text)
        with pytest.raises(ParamsError, match="did you mean `validation`"):
            read_params(tmp_path / "params.yaml")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{this}: &{this} [{', '.join([f'*{last}'] * 9)}]\n" for last, this in itertools.pairwise("abcdefgh")
)


ORDINARY = (
    "a: [1, -2.5, {b: c, 'd': \"e\\n\"}]\nf: |\n  x\n   y\ng: >-\n  z\n  w\n",
    "a:\n- 1e-3\n- b: 2013-03\n  c: 15m\n-\n  - true\n",
    "---\n# c\na: b #x\nc: d#e\nf: 'it''s'\ng: http://a.b/c:d?e=f\nh:\ni: ~\n",
    "a: b\n  c\n\n  d\ne: 0123abcd\n",
)
PIECES = (
    *" \n\t:-#,[]{}'\"|>?!&*%@~=<\\01.e_xoZä\x85\u2028",
    "\n  ",
    "\n- ",
    ": ",
    " #",
    "null",
    "True",
    "...\n",
    "<<: ",
    "- !!str ",
)


class TestBounds:
    """Whoever wrote a text, reading it costs little."""

    @pytest.mark.parametrize("read", [parse_plain, parse_tree])
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            (LAUGHS, "aliases are not taken here"),
            ("a: &a {x: 1}\nb: {<<: *a}", "merge keys are not taken here"),
            ("a: " + "[" * 400_000, "more than 40 levels"),
            ("".join(" " * depth + "a:\n" for depth in range(500)), "more than 40 levels"),
            ("a: [" + "1," * 100_000 + "]", "more than 20,000 keys and values"),
            ("a: 1\n" + "# x\n" * 200_000, "more than 500,000"),
            ("a: 1\na: 2", "duplicate key"),
            ("a: {b: 1, b: 2}", "duplicate key"),
            ("- a", "expected keys and values"),
            ("", "expected keys and values"),
            ("[", "not valid YAML"),
            ("a: 2024-99-99", "not valid YAML"),
            ("%YAML 1.1\n---\na: " + "1:" * 240_000 + "1", "directives are not taken here"),
            ("%TAG ! tag:yaml.org,2002:\n---\na: !int 1", "directives are not taken here"),
            ("%YAML 1.3\n---\na: 1", "not valid YAML"),
            ("a: !!int ''", "tags are not taken here"),
            ("a: !!omap [a: 1, a: 2]", "tags are not taken here"),
            ("a: !mine {b: 1}", "tags are not taken here"),
            ("<<: {a: 1}\na: 2", "merge keys are not taken here"),
            ("? {a: [1, 2]}\n: b", "keys that are lists or have keys are not taken here"),
            ("a:\n  ? [1, {b: c}]\n  : d", "keys that are lists or have keys are not taken here"),
            ("{? [1]: 2}", "keys that are lists or have keys are not taken here"),
            ("a: 0x" + "f" * 400_000, "numbers of more than 100 characters"),
            ("a: 2024-01-01T00:00:00." + "9" * 400_000, "numbers of more than 100 characters"),
            ('a: "\\UFFFFFFFF"', "not valid YAML"),
            ('a: "\\ud800"', "not valid YAML"),
        ],
    )
    def test_it_is_refused_within_a_few_seconds_of_work(self, read, text, says):
        start = time.process_time()
        with pytest.raises(DocumentError, match=says):
            read(text, "x.yaml")
        assert time.process_time() - start < 10

    def test_an_alias_is_named_by_its_line_and_what_to_write_instead(self):
        with pytest.raises(DocumentError, match=r"x.yaml:2: ") as caught:
            parse_plain("a: &a 1\nb: *a\n", "x.yaml")
        assert caught.value.hint == "write the value out where the alias `*…` is"

    def test_trees_that_were_read_do_not_fill_the_memory(self):
        tracemalloc.start()
        for number in range(20):
            parse_plain(f"a: {number}\n" + "".join(f"k{each}: {{a: 1}}\n" for each in range(2_000)), "x.yaml")
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert held < 5_000_000

    @pytest.mark.parametrize("quoted", ["", "  b: '<<<<<<< '\n"])
    def test_conflict_markers_of_git_are_named_with_their_line(self, quoted):
        text = f"a:\n{quoted}<<<<<<< HEAD\n  c: 1\n=======\n  c: 2\n>>>>>>> propose/orders\n"
        with pytest.raises(DocumentError, match="git's conflict markers are in it") as caught:
            parse_plain(text, "params.yaml")
        assert caught.value.where == f"params.yaml:{3 if quoted else 2}"

    def test_tags_of_python_make_no_objects(self):
        with pytest.raises(DocumentError):
            parse_plain("a: !!python/object/apply:os.system [x]", "x.yaml")

    def test_plain_values_are_those_of_yaml_1_2_as_dvc_reads_them(self):
        assert parse_plain("a: off\nb: 1e-3\nc: [0o7, null]", "x.yaml") == {"a": "off", "b": 0.001, "c": [7, None]}

    @given(
        st.sampled_from(ORDINARY),
        st.lists(st.tuples(st.integers(0, 80), st.sampled_from(["", *PIECES]), st.integers(0, 3)), max_size=3),
    )
    def test_the_quick_reading_of_an_ordinary_text_is_that_of_yaml_1_2(self, text, edits):
        for place, piece, gone in edits:
            text = text[:place] + piece + text[place + gone :]
        try:
            right = repr(dict(yaml_reader("safe").load(text)))
        except Exception:  # noqa: BLE001 - of whatever kind: it is no text of keys and values
            with pytest.raises(DocumentError):
                parse_plain(text, "x.yaml")
        else:
            assert repr(parse_plain(text, "x.yaml")) == right

    @pytest.mark.parametrize(
        "text",
        [
            '{"a": 1, "a": 2}',
            "NaN",
            '{"a": Infinity}',
            "1e400",
            r'{"a": ["\ud800"]}',
            '{"a": 1}'.encode("utf-16"),
            "[" * 100_000,
            "{",
            "\ud800",
        ],
    )
    def test_json_that_two_readers_may_take_differently_is_refused(self, text):
        with pytest.raises(DocumentError, match="not valid JSON"):
            parse_json(text, "x.json")

    def test_a_key_given_twice_among_very_many_is_found_at_once(self):
        keys = ",".join(f'"{number}":1' for number in range(100_000))
        start = time.process_time()
        with pytest.raises(DocumentError, match="duplicate key '99999'"):
            parse_json(f'{{{keys},"99999":1}}', "x.json")
        assert time.process_time() - start < 5

    def test_json_is_read(self):
        assert parse_json(b'{"a": [1, 2.5, null]}', "x.json") == {"a": [1, 2.5, None]}
