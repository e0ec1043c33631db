"""Files of a pipeline that are read in another way, or grow larger in memory, than a look at their sizes says."""

import io
import tracemalloc

import numpy as np
import pytest
from test_check import edit_skops

from mergeline.errors import ModelError
from mergeline.files import pack_zip
from mergeline.model.artifact import load_pipeline
from mergeline.model.check import check_model

MEGABYTES = 1_000_000


@pytest.fixture
def boosted(trained):
    return trained(model={"factory": "toy.model:boosted", "arguments": {"max_iter": 3, "learning_rate": 0.2}})


def check(folder):
    check_model(folder, name="orders", own=("toy.*",))


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_member(folder, name, content, **node):
    """The pipeline with one more part."""

    def forge(schema, held):
        held[name] = content
        schema["content"]["content"]["memory"] = {"__module__": "numpy", "file": name, **node}

    edit_skops(folder, forge)


def with_array(folder, content):
    with_member(folder, "9999.npy", content, __class__="ndarray", __loader__="NdArrayNode", type="numpy")


def peak(work):
    """The most memory that it took, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_large_array_of_small_numbers_takes_little_more_than_its_own_room(boosted):
    with_array(boosted, npy(np.zeros(20 * MEGABYTES, dtype=np.float16)))
    assert peak(lambda: check(boosted)) < 90 * MEGABYTES


def test_an_archive_in_an_archive_is_not_opened(boosted):
    inner = npy(np.zeros(MEGABYTES, dtype=np.uint8))
    for _ in range(100):
        inner = pack_zip({"a.npz": inner})
    node = {"__class__": "csr_matrix", "__loader__": "SparseMatrixNode", "type": "scipy"}
    with_member(boosted, "9999.npz", inner, **node)

    def refused():
        with pytest.raises(ModelError, match=r"a matrix has a part 'a\.npz'"):
            check(boosted)

    assert peak(refused) < 10 * MEGABYTES


@pytest.mark.parametrize("protocol", [0, 3, 99, -1, 1.0, True, "2", None])
def test_a_form_of_skops_that_its_reader_would_take_in_another_way_is_refused(boosted, protocol):
    """The oldest names a function twice."""
    node = {"__class__": "r2_score", "__module__": "sklearn.metrics", "__loader__": "FunctionNode"}
    node["content"] = {"module_path": "os", "function": "system"}
    edit_skops(boosted, lambda schema, _: schema.update(protocol=protocol))
    edit_skops(boosted, lambda schema, _: schema["content"]["content"].update(memory=node))
    with pytest.raises(ModelError, match="form .* of skops"):
        check(boosted)
    with pytest.raises(ModelError):
        load_pipeline(boosted / "model.skops", ("toy.*",))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("'|S0'", "(2147483647, 2147483647)"),
        ("'|V0'", "(2147483647,)"),
        ("[('left', '|S0'), ('right', '|S0'), ('is_leaf', '|S0')]", "(2147483647,)"),
        ("[('a', '<f8', (0,))]", "(2147483647, 2147483647)"),
        ("[('a', '<f8', (99999, 99999, 99999))]", "(0,)"),
        ("'<M8[100000000000000000000Y]'", "(0,)"),
        ("{'names': ['a'], 'formats': ['f8'], 'offsets': [1000000000]}", "(0,)"),
        ("'<f8'", "()"),
        ("'<f8'", "(1,) * 9"),
    ],
)
def test_a_header_of_numbers_without_room(boosted, kind, shape):
    header = f"{{'descr': {kind}, 'fortran_order': True, 'shape': {shape}, }}".encode().ljust(310) + b"\n"
    with_array(boosted, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ModelError, match="array"):
        check(boosted)


@pytest.mark.parametrize("name", ["scorer.json", "lineage.json", "signature.json", "profile.json", "model.skops"])
def test_a_description_that_would_fill_the_memory_is_not_read(boosted, name):
    content = b"[" + b"[],".rjust(1000) * 50_001 + b"0]"
    if name == "model.skops":
        content = pack_zip({"schema.json": content})
    (boosted / name).write_bytes(content)
    with pytest.raises(ModelError, match="at most 50,000,000 are read"):
        check(boosted)
