#!/usr/bin/env python3
"""Makes the small models of this crate's tests, with weights that a person can check in the head.

linear.onnx     features [N, 3] -> variable [N, 1] = a + 10 b + 100 c
logarithm.onnx  features [N, 1] -> variable [N, 1] = ln(a): not finite for a <= 0
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).parent


def save(name, width, nodes, initializers=()):
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("variable", TensorProto.FLOAT, ["N", 1])],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, HERE / f"{name}.onnx")


weights = numpy_helper.from_array(np.array([[1.0], [10.0], [100.0]], dtype=np.float32), "weights")
save("linear", 3, [helper.make_node("MatMul", ["features", "weights"], ["variable"])], [weights])
save("logarithm", 1, [helper.make_node("Log", ["features"], ["variable"])])
