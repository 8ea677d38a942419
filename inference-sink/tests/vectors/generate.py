#!/usr/bin/env python3
"""Makes the small models of this crate's tests, with weights that a person can check in the head.

linear.onnx     features [N, 3] -> variable [N, 1] = a + 10 b + 100 c
logarithm.onnx  features [N, 1] -> variable [N, 1] = ln(a): not finite for a <= 0
costly.onnx     as linear.onnx, but takes a hundred times the CPU: a, b and c lie in the first of 64 columns, which are shifted
                64 times by one, back to where they were
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

WIDTH = 64
spread = np.zeros((3, WIDTH), dtype=np.float32)
spread[0, 0], spread[1, 1], spread[2, 2] = 1, 1, 1
gather = np.zeros((WIDTH, 1), dtype=np.float32)
gather[:3, 0] = 1, 10, 100
shift = np.roll(np.eye(WIDTH, dtype=np.float32), 1, axis=1)
nodes = [helper.make_node("MatMul", ["features", "spread"], ["columns0"])]
for number in range(WIDTH):
    nodes.append(helper.make_node("MatMul", [f"columns{number}", "shift"], [f"columns{number + 1}"]))
nodes.append(helper.make_node("MatMul", [f"columns{WIDTH}", "gather"], ["variable"]))
tensors = {"spread": spread, "shift": shift, "gather": gather}
save("costly", 3, nodes, [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()])
