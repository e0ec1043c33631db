"""The check of a model folder: what training writes passes, and a forged folder of each kind is refused, unrun."""

import io
import json
import pickle
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mergeline.errors import ModelError, UntrustedTypeError
from mergeline.files import pack_zip
from mergeline.model.artifact import load_model
from mergeline.model.check import check_model
from mergeline.scorer.compiling import difference
from toy_data import train_toy

OWN = ("toy.*",)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model of each kind: a linear one, a boosted one, and one that scikit-learn serves."""
    root = tmp_path_factory.mktemp("models")
    made = {}
    for kind, model in {
        "linear": {"factory": "toy.model:linear"},
        "boosted": {"factory": "toy.model:boosted", "arguments": {"max_iter": 3, "learning_rate": 0.2}},
        "served": {"factory": "toy.searches:tempered"},
    }.items():
        made[kind] = shutil.copytree(train_toy(root, model=model), root / kind)
    made["retrained"] = train_toy(root, model={"factory": "toy.model:boosted", "arguments": {"max_iter": 4}})
    return made


@pytest.fixture
def boosted(models, tmp_path):
    return shutil.copytree(models["boosted"], tmp_path / "forged")


def check(folder, own=OWN, name="orders"):
    check_model(folder, name=name, own=own)


def edit(path: Path, change):
    """Let `change` edit a JSON file's value."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def edit_skops(folder, change):
    """Let `change` edit the schema and the members of the pipeline's file."""
    held = members(folder / "model.skops")
    schema = json.loads(held["schema.json"])
    change(schema, held)
    held["schema.json"] = json.dumps(schema).encode()
    (folder / "model.skops").write_bytes(pack_zip(held))


@pytest.mark.parametrize("kind", ["linear", "boosted", "served", "retrained"])
def test_what_training_writes_passes(models, kind):
    check(models[kind])


class TestFiles:
    def test_an_odd_name_is_refused(self, boosted):
        (boosted / "conftest.py").write_text("raise SystemExit")
        with pytest.raises(ModelError, match=r"no model has a file 'conftest\.py'"):
            check(boosted)

    def test_a_missing_part_is_named(self, boosted):
        (boosted / "signature.json").unlink()
        with pytest.raises(ModelError, match="part of the model is missing"):
            check(boosted)

    def test_a_description_that_makes_mlflow_load_something_else(self, boosted):
        path = boosted / "MLmodel"
        path.write_text(path.read_text().replace("loader_module: mlflow.sklearn", "loader_module: subprocess"))
        with pytest.raises(ModelError, match="not the text that training writes"):
            check(boosted)


class TestPipeline:
    @pytest.mark.parametrize(
        "named",
        [
            "os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr", "pickle.loads",
            "subprocess.Popen", "joblib.load", "numpy.load", "numpy.save", "numpy.fromfile", "numpy.f2py.run_main",
            "numpy.ctypeslib.load_library", "sklearn.datasets.fetch_openml", "sklearn.utils._testing.check_output",
            "sklearn.datasets._base.load_files", "operator.methodcaller", "importlib.import_module",
            "toys.model.doubled", "pandas.read_pickle",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("loader", ["FunctionNode", "ObjectNode", "TypeNode"])
    def test_a_type_that_does_things_is_refused(self, boosted, named, loader):
        module, _, name = named.rpartition(".")
        node = {"__class__": name, "__module__": module, "__loader__": loader}
        edit_skops(boosted, lambda schema, _: schema["content"]["content"].update(memory=node))
        with pytest.raises(UntrustedTypeError, match=named.replace(".", r"\.")):
            check(boosted)

    def test_not_even_a_team_can_trust_pythons_own_library(self, boosted):
        node = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
        edit_skops(boosted, lambda schema, _: schema["content"]["content"].update(memory=node))
        with pytest.raises(UntrustedTypeError, match=r"os\.system"):
            check(boosted, own=("os.system", "os.*", *OWN))

    def test_a_method_and_a_random_generator_are_looked_into(self, boosted):
        def forge(schema, held):
            text = json.dumps(schema)
            assert '\\"PCG64\\"' in text
            schema.clear()
            schema.update(json.loads(text.replace('\\"PCG64\\"', '\\"seed\\"')))

        edit_skops(boosted, forge)
        with pytest.raises(UntrustedTypeError, match=r"numpy\.random\.seed"):
            check(boosted)

    def test_an_unknown_loader_is_refused(self, boosted):
        node = {"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode"}
        edit_skops(boosted, lambda schema, _: schema["content"]["content"].update(memory=node))
        with pytest.raises(ModelError, match="OperatorFuncNode"):
            check(boosted)

    def test_a_pickle_is_no_pipeline(self, boosted):
        (boosted / "model.skops").write_bytes(pickle.dumps({"a": 1}))
        with pytest.raises(ModelError, match="not a pipeline that skops stores"):
            check(boosted)

    def test_a_pickled_array_inside_is_refused(self, boosted):
        def forge(_, held):
            name = next(name for name in held if name.endswith(".npy"))
            stream = io.BytesIO()
            np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
            held[name] = stream.getvalue()

        edit_skops(boosted, forge)
        with pytest.raises(ModelError, match="pickled objects"):
            check(boosted)

    def test_a_bomb_is_refused_before_it_is_unpacked(self, boosted):
        with zipfile.ZipFile(boosted / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("schema.json", b"0" * 50_000_000)
        assert (boosted / "model.skops").stat().st_size < 100_000
        with pytest.raises(ModelError, match="compressed"):
            check(boosted)

    def test_an_array_that_says_another_size_is_refused(self, boosted):
        def forge(_, held):
            name = next(name for name in held if name.endswith(".npy"))
            held[name] = held[name].replace(b"'shape': (", b"'shape': (9", 1)

        edit_skops(boosted, forge)
        with pytest.raises(ModelError, match="not of the size that it says"):
            check(boosted)

    def test_nesting_without_an_end_is_refused(self, boosted):
        (boosted / "model.skops").write_bytes(pack_zip({"schema.json": b"[" * 100_000 + b"]" * 100_000}))
        with pytest.raises(ModelError, match="not valid JSON"):
            check(boosted)

    @pytest.mark.parametrize("shape", ["(10**30, 0)", "(-1,)", "(True,)", f"({'9' * 30}, 0)", "(0,) " + "(" * 200])
    def test_a_header_that_numpy_does_not_survive_is_refused(self, boosted, shape):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(310) + b"\n"
        forged = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 8
        for file in ("model.skops", "scorer.npz"):
            held = members(boosted / file)
            held[next(name for name in held if name.endswith(".npy"))] = forged
            (boosted / file).write_bytes(pack_zip(held))
            with pytest.raises(ModelError, match="array"):
                check(boosted)

    def test_members_that_are_inside_each_other_are_not_read(self, boosted):
        shared, entries, stored = b"\0" * 200_000, [], b""
        for name in (f"{number}.bin" for number in range(500)):  # 100 MB in memory, of 225 kB
            inner = zipfile.ZipInfo(name)
            inner.file_size = inner.compress_size = len(stored + shared)
            inner.CRC = zlib.crc32(stored + shared)
            stored = inner.FileHeader() + stored
            entries.append((inner, len(stored)))
        with zipfile.ZipFile(boosted / "model.skops", "w") as archive:
            archive.fp.write(stored + shared)
            archive.start_dir = archive.fp.tell()
            for inner, from_end in entries:
                inner.header_offset = len(stored) - from_end
                archive.filelist.append(inner)
            archive._didModify = True
        with pytest.raises(ModelError, match="share their bytes"):
            check(boosted)

    @pytest.mark.parametrize("part", ["__loader__", "__module__", "__class__"])
    def test_a_node_that_is_no_type_is_refused(self, boosted, part):
        edit_skops(boosted, lambda schema, _: schema.update({part: ["x"]}))
        with pytest.raises(ModelError, match="not a pipeline that skops stores"):
            check(boosted)

    def test_a_tree_whose_nodes_lead_out_of_it_is_refused(self, boosted):
        def forge(_, held):
            for name, content in held.items():
                array = np.load(io.BytesIO(content)) if name.endswith(".npy") else np.zeros(0)
                if array.dtype.names and "left" in array.dtype.names:
                    array["left"][0] = 1_000_000
                    stream = io.BytesIO()
                    np.save(stream, array)
                    held[name] = stream.getvalue()
                    return

        edit_skops(boosted, forge)
        with pytest.raises(ModelError, match="not below it"):
            check(boosted)


class TestSignature:
    def test_another_projects_is_refused(self, boosted):
        with pytest.raises(ModelError, match="signature of 'orders', not of 'flights'"):
            check(boosted, name="flights")

    @pytest.mark.parametrize("threshold", [0, -1, 1.5, None])
    def test_a_threshold_out_of_range_is_refused(self, boosted, threshold):
        edit(boosted / "signature.json", lambda value: value["output"].update(threshold=threshold))
        with pytest.raises(ModelError, match="threshold is"):
            check(boosted)

    def test_another_target_than_the_one_trained_for_is_refused(self, boosted):
        edit(boosted / "signature.json", lambda value: value["output"].update(target="gift_"))
        with pytest.raises(ModelError, match="target is 'gift_', it was trained for 'returned'"):
            check(boosted)

    def test_a_column_that_is_there_twice_is_refused(self, boosted):
        edit(boosted / "signature.json", lambda value: value["columns"].append(value["columns"][0]))
        with pytest.raises(ModelError, match="not one for each input"):
            check(boosted)

    def test_a_positive_class_that_is_none_is_refused(self, boosted):
        edit(boosted / "signature.json", lambda value: value["output"].update(positive="yes"))
        with pytest.raises(ModelError, match="one of them is positive"):
            check(boosted)


class TestScorer:
    @pytest.mark.parametrize("beside", ["boosted", "linear"])
    def test_the_champions_scorer_beside_another_pipeline_is_refused(self, models, tmp_path, beside):
        forged = shutil.copytree(models["retrained"], tmp_path / "forged")
        for name in ("scorer.json", "scorer.npz", "scorer.onnx"):
            (forged / name).unlink(missing_ok=True)
            if (models[beside] / name).exists():
                shutil.copy(models[beside] / name, forged / name)
        with pytest.raises(ModelError, match="made of another pipeline"):
            check(forged)

    def test_numbers_that_are_not_the_pipelines_are_refused(self, boosted):
        path = boosted / "scorer.onnx"
        content = bytearray(path.read_bytes())
        place = content.rindex(b"weights")
        content[place + 20] ^= 1
        path.write_bytes(bytes(content))
        with pytest.raises(ModelError, match="scorer"):
            check(boosted)

    @pytest.mark.parametrize("content", [b"[" * 200_000, b"9" * 5000, b"\xff", b'{"format": 1, "format": 1}'])
    def test_a_description_that_nobody_can_read_is_refused(self, boosted, content):
        (boosted / "scorer.json").write_bytes(content)
        with pytest.raises(ModelError, match="not valid JSON"):
            check(boosted)

    def test_random_bytes_in_place_of_trees_are_refused(self, boosted):
        (boosted / "scorer.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
        with pytest.raises(ModelError, match="scorer cannot be used"):
            check(boosted)

    def test_parts_without_a_scorer_are_refused(self, boosted):
        (boosted / "scorer.json").unlink()
        with pytest.raises(ModelError, match="parts of a scorer, and no scorer"):
            check(boosted)

    def test_a_compressed_part_is_refused(self, boosted):
        held = members(boosted / "scorer.npz")
        with zipfile.ZipFile(boosted / "scorer.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in held.items():
                archive.writestr(name, content)
        with pytest.raises(ModelError, match="compressed"):
            check(boosted)


def edit_array(folder, name, change):
    """Let `change` edit an array of the scorer."""
    held = members(folder / "scorer.npz")
    array = np.load(io.BytesIO(held[f"{name}.npy"]))
    stream = io.BytesIO()
    np.lib.format.write_array(stream, change(array), version=(1, 0))
    held[f"{name}.npy"] = stream.getvalue()
    (folder / "scorer.npz").write_bytes(pack_zip(held))


def edit_trees(folder, change):
    """Let `change` edit the numbers of the scorer's trees, by their names."""
    graph = onnx.load_from_string((folder / "scorer.onnx").read_bytes())
    attributes = {attribute.name: attribute for attribute in graph.graph.node[0].attribute}
    lists = {name: list(one.ints) for name, one in attributes.items() if one.ints}
    arrays = {name: numpy_helper.to_array(one.t).copy() for name, one in attributes.items() if one.HasField("t")}
    change({**lists, **arrays})
    for name, values in lists.items():
        attributes[name].ints[:] = values
    for name, values in arrays.items():
        attributes[name].t.CopyFrom(numpy_helper.from_array(values, attributes[name].t.name))
    (folder / "scorer.onnx").write_bytes(graph.SerializeToString(deterministic=True))


def swap(values, *places):
    one, other = places
    values[one], values[other] = values[other], values[one]


class TestTie:
    """A sound scorer of other numbers beside an honest pipeline: who compiles the pipeline again sees it."""

    @staticmethod
    def difference(folder):
        model = load_model(folder)
        return difference(folder, model.pipeline, model.signature)

    @pytest.mark.parametrize("kind", ["linear", "boosted", "retrained"])
    def test_an_honest_one_is_the_same(self, models, kind):
        assert self.difference(models[kind]) == ""

    @pytest.mark.parametrize(
        ("kind", "name", "change"),
        [
            ("boosted", "base", lambda base: base + 1),
            ("boosted", "lookup-0", lambda values: values[::-1]),
            ("linear", "lookup-0", lambda values: values * 2),
            ("linear", "weights", lambda weights: -weights),
            ("linear", "weights", lambda weights: weights * (1 + 1e-6)),
            ("linear", "step-0", lambda parameters: parameters + 1),
        ],
    )
    def test_other_numbers(self, models, tmp_path, kind, name, change):
        forged = shutil.copytree(models[kind], tmp_path / "forged")
        edit_array(forged, name, change)
        check(forged)  # it is sound, and nothing that is looked at unrun tells it from an honest one
        assert self.difference(forged) == "made of another pipeline: scorer.npz"

    @pytest.mark.parametrize(
        "change",
        [
            lambda trees: swap(trees["leaf_weights"], 0, 1),
            lambda trees: trees["nodes_splits"].__iadd__(1),
            lambda trees: swap(trees["nodes_featureids"], 0, 1),
            lambda trees: trees["nodes_missing_value_tracks_true"].__setitem__(
                0, 1 - trees["nodes_missing_value_tracks_true"][0]
            ),
        ],
    )
    def test_other_trees(self, boosted, change):
        edit_trees(boosted, change)
        check(boosted)
        assert self.difference(boosted) == "made of another pipeline: scorer.onnx"

    def test_another_link(self, boosted):
        edit(boosted / "scorer.json", lambda value: value["program"]["finish"].update(divisor=2.0))
        check(boosted)
        assert self.difference(boosted) == "made of another pipeline: scorer.json"

    def test_a_scorer_beside_what_cannot_be_compiled(self, models, boosted):
        shutil.copy(models["served"] / "model.skops", boosted / "model.skops")
        assert self.difference(boosted).startswith("the pipeline cannot be compiled")


def test_a_zip_file_of_a_later_form_is_refused(boosted):
    for file in ("model.skops", "scorer.npz"):
        content = (boosted / file).read_bytes()
        place = content.index(b"PK\1\2") + 6  # the version that is needed to read it
        (boosted / file).write_bytes(content[:place] + b"\x54\0" + content[place + 2 :])
        with pytest.raises(ModelError, match="zip file version"):
            check(boosted)
        (boosted / file).write_bytes(content)


@pytest.mark.parametrize("key", ["positive", "threshold"])
def test_an_output_that_is_not_the_one_trained_for_is_refused(boosted, key):
    output = json.loads((boosted / "signature.json").read_text())["output"]
    other = next(label for label in output["classes"] if label != output["positive"])
    edit(boosted / "signature.json", lambda one: one["output"].update({key: {"positive": other}.get(key, 0.001)}))
    edit(boosted / "lineage.json", lambda one: one["training"]["model"].update(threshold=0.5))
    with pytest.raises(ModelError, match=f"{key} is"):
        check(boosted)
