"""Writes a forest as an ONNX file of one node: ai.onnx.ml's TreeEnsemble, in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mergeline.scorer.forest import Forest

ML_VERSION, IR_VERSION, VERSION = 5, 10, 21
INPUT, OUTPUT = "x", "y"


def write_graph(forest: Forest, width: int) -> bytes:
    """The file's bytes, the same for the same forest; `width` is the number of the matrix's columns."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = forest.nodes

    def tensor(name: str, values: list[Any], kind: Any) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, dtype=kind), name)

    node = helper.make_node(
        "TreeEnsemble",
        [INPUT],
        [OUTPUT],
        domain="ai.onnx.ml",
        n_targets=forest.outputs,
        aggregate_function=1,
        post_transform=0,
        tree_roots=nodes.roots,
        nodes_featureids=nodes.feature,
        nodes_splits=tensor("splits", nodes.value, np.float64),
        nodes_modes=tensor("modes", nodes.mode, np.uint8),
        nodes_missing_value_tracks_true=nodes.missing_true,
        nodes_truenodeids=nodes.true,
        nodes_trueleafs=nodes.true_is_leaf,
        nodes_falsenodeids=nodes.false,
        nodes_falseleafs=nodes.false_is_leaf,
        leaf_targetids=nodes.target,
        leaf_weights=tensor("weights", nodes.weight, np.float64),
    )
    graph = helper.make_graph(
        [node],
        "scorer",
        [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, forest.outputs])],
    )
    opsets = [helper.make_opsetid("", VERSION), helper.make_opsetid("ai.onnx.ml", ML_VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mergeline")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
