#!/usr/bin/env python3
"""Makes the recorded vectors: small models of many kinds with what ONNX Runtime answers for them.

For each model NAME: NAME.onnx and NAME.json = {"inputs": {tensor: [[row]...]}, "outputs": {tensor: [[row]...]}}.
65 rows each; labels may be strings; NaN is written as null, infinity as text. The environment is set up by
configs/demo/training/setup.sh. Values that are missing are exercised (NaN) only where a model defines them.

ONNX Runtime is given all rows at once, except for models whose rows change each other's answers (`alone`): what counts there
is what it says of each row alone.

`generate.py [PREFIX ...]` makes only the vectors whose names start so.
"""

import json
import pathlib
import sys
import tempfile
import warnings

import lightgbm
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as ToolsFloat
from skl2onnx import to_onnx
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

warnings.filterwarnings("ignore")

# skl2onnx 1.20 hands truth values to integer attributes, which protobuf 7 refuses.
_make_attribute = helper.make_attribute


def _make_integer_attribute(key, value, *rest, **options):
    if isinstance(value, list) and any(isinstance(v, (bool, np.bool_)) for v in value):
        value = [int(v) for v in value]
    return _make_attribute(key, value, *rest, **options)


helper.make_attribute = _make_integer_attribute
HERE = pathlib.Path(__file__).resolve().parent
FEATURES = 6
ROWS = 65
rng = np.random.default_rng(20170101)

# Training data on a grid of quarters, so that float32 and float64 agree on which side of a
# threshold a value lies: the vectors test evaluation, not the exporters' rounding.
X = (np.round(rng.normal(size=(600, FEATURES)) * 8) / 4).astype(np.float32)
SIGNAL = X[:, 0] * X[:, 1] + np.sin(X[:, 2]) * 2 - X[:, 3]
BINARY = (SIGNAL > 0).astype(np.int64)
CLASSES = np.digitize(SIGNAL, [-1.5, 1.5]).astype(np.int64)
NAMES = np.array(["low", "middle", "high"])[CLASSES]
PROBE = (np.round(rng.normal(size=(ROWS, FEATURES)) * 8) / 4 + 0.0625).astype(np.float32)
HOLES = PROBE.copy()
HOLES[rng.random(HOLES.shape) < 0.2] = np.nan
X_HOLES = X.copy()
X_HOLES[rng.random(X.shape) < 0.1] = np.nan


def plain(value):
    """Rows as JSON: floats with nine digits (exact for float32), doubles with all of theirs, NaN as null."""
    if isinstance(value, list):  # ZipMap: a list of maps
        return [[plain_number(v, 9) for v in row.values()] for row in value]
    digits = 17 if value.dtype == np.float64 else 9
    value = value.reshape(len(value), -1)
    return [[plain_number(v, digits) for v in row] for row in value.tolist()]


def plain_number(value, digits):
    if isinstance(value, float):
        if not np.isfinite(value):
            return None if np.isnan(value) else str(value)
        return float(f"{value:.{digits}g}")
    return value


def wanted(name):
    return len(sys.argv) == 1 or any(name.startswith(prefix) for prefix in sys.argv[1:])


def record(name, model, inputs=PROBE, alone=False):
    """Runs ONNX Runtime and writes the model with its answers: for all rows at once, or for each row alone."""
    if not wanted(name):
        return
    if not isinstance(model, bytes):
        model = model.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    if not isinstance(inputs, dict):
        inputs = {session.get_inputs()[0].name: inputs}
    if alone:
        rows = [session.run(None, {key: value[row : row + 1] for key, value in inputs.items()}) for row in range(ROWS)]
        answers = [np.concatenate(answer) for answer in zip(*rows)]
    else:
        answers = session.run(None, inputs)
    vector = {
        "inputs": {key: plain(value) for key, value in inputs.items()},
        "outputs": {out.name: plain(answer) for out, answer in zip(session.get_outputs(), answers)},
    }
    (HERE / f"{name}.onnx").write_bytes(model)
    (HERE / f"{name}.json").write_text(json.dumps(vector, separators=(",", ":")) + "\n")


def sklearn_zoo():
    first = X[:1]
    off = {"zipmap": False}

    def fit(estimator, target, data=X):
        return estimator.fit(data, target)

    logistic = fit(LogisticRegression(), BINARY)
    record("sk_logistic", to_onnx(logistic, first, options=off))
    record("sk_logistic_zipmap", to_onnx(logistic, first))
    record("sk_logistic_scaled", to_onnx(fit(make_pipeline(StandardScaler(), LogisticRegression()), BINARY), first, options=off))
    record("sk_logistic_multi", to_onnx(fit(LogisticRegression(), CLASSES), first, options=off))
    record("sk_logistic_names", to_onnx(fit(LogisticRegression(), NAMES), first, options=off))
    record("sk_logistic_names_zipmap", to_onnx(fit(LogisticRegression(), NAMES), first))
    record("sk_logistic_minmax", to_onnx(fit(make_pipeline(MinMaxScaler(), LogisticRegression()), BINARY), first, options=off))
    record("sk_logistic_l2", to_onnx(fit(make_pipeline(Normalizer(), LogisticRegression()), BINARY), first, options=off))
    record("sk_linear", to_onnx(fit(LinearRegression(), SIGNAL), first))

    mlp = make_pipeline(StandardScaler(), MLPClassifier((16, 8), max_iter=60, random_state=1))
    record("sk_mlp", to_onnx(fit(mlp, BINARY), first, options=off))
    record("sk_mlp_zipmap", to_onnx(mlp, first))
    record("sk_mlp_multi", to_onnx(fit(MLPClassifier((16,), activation="tanh", max_iter=60, random_state=1), CLASSES), first, options=off))
    record("sk_mlp_names", to_onnx(fit(MLPClassifier((8,), activation="logistic", max_iter=60, random_state=1), NAMES), first, options=off))
    record("sk_mlp_regressor", to_onnx(fit(MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=60, random_state=1), SIGNAL), first))

    record("sk_tree", to_onnx(fit(DecisionTreeClassifier(max_depth=5), BINARY), first, options=off))
    record("sk_tree_multi", to_onnx(fit(DecisionTreeClassifier(max_depth=5), CLASSES), first, options=off))
    record("sk_tree_regressor", to_onnx(fit(DecisionTreeRegressor(max_depth=5), SIGNAL), first))
    forest = dict(n_estimators=8, max_depth=4, random_state=1)
    record("sk_forest", to_onnx(fit(RandomForestClassifier(**forest), BINARY), first, options=off))
    record("sk_forest_zipmap", to_onnx(fit(RandomForestClassifier(**forest), BINARY), first))
    record("sk_forest_names", to_onnx(fit(RandomForestClassifier(**forest), NAMES), first, options=off))
    record("sk_forest_names_zipmap", to_onnx(fit(RandomForestClassifier(**forest), NAMES), first))
    record("sk_forest_scaled", to_onnx(fit(make_pipeline(StandardScaler(), ExtraTreesClassifier(**forest)), CLASSES), first, options=off))
    record("sk_forest_regressor", to_onnx(fit(RandomForestRegressor(**forest), SIGNAL), first))
    boost = dict(n_estimators=12, max_depth=3, random_state=1)
    record("sk_boosting", to_onnx(fit(GradientBoostingClassifier(**boost), BINARY), first, options=off))
    record("sk_boosting_multi", to_onnx(fit(GradientBoostingClassifier(**boost), CLASSES), first, options=off))
    record("sk_boosting_regressor", to_onnx(fit(GradientBoostingRegressor(**boost), SIGNAL), first))
    hist = dict(max_iter=12, max_leaf_nodes=8, random_state=1)
    record("sk_hist", to_onnx(fit(HistGradientBoostingClassifier(**hist), BINARY, X_HOLES), first, options=off), HOLES)
    record("sk_hist_multi", to_onnx(fit(HistGradientBoostingClassifier(**hist), CLASSES, X_HOLES), first, options=off), HOLES)
    record("sk_hist_regressor", to_onnx(fit(HistGradientBoostingRegressor(**hist), SIGNAL, X_HOLES), first), HOLES)


def lightgbm_zoo():
    kind = [("input", ToolsFloat([None, FEATURES]))]
    settings = dict(n_estimators=12, num_leaves=8, verbose=-1, random_state=1, n_jobs=1)

    def convert(estimator, **options):
        return convert_lightgbm(estimator, initial_types=kind, target_opset=15, **options)

    binary = lightgbm.LGBMClassifier(**settings).fit(X_HOLES, BINARY)
    record("lgbm", convert(binary, zipmap=False), HOLES)
    record("lgbm_zipmap", convert(binary), HOLES)
    record("lgbm_multi", convert(lightgbm.LGBMClassifier(**settings).fit(X, CLASSES), zipmap=False))
    record("lgbm_regressor", convert(lightgbm.LGBMRegressor(**settings).fit(X, SIGNAL)))
    record("lgbm_forest", convert(lightgbm.LGBMRegressor(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, **settings).fit(X, SIGNAL)))
    # A categorical feature becomes BRANCH_EQ nodes.
    categories = X.copy()
    categories[:, 5] = np.abs(np.round(categories[:, 5]))
    probe = PROBE.copy()
    probe[:, 5] = np.abs(np.round(probe[:, 5]))
    category = lightgbm.LGBMClassifier(min_data_per_group=5, cat_smooth=1, max_cat_to_onehot=2, **settings)
    category.fit(categories, ((SIGNAL > 0) ^ (categories[:, 5] == 1)).astype(int), categorical_feature=[5])
    record("lgbm_category", convert(category, zipmap=False), probe)


def stump_forest(modes, targets=1, seed=0):
    """Attributes of trees of depth two, one for each pair of branch modes."""
    made = np.random.default_rng(seed)
    nodes = {key: [] for key in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids", "missing_value_tracks_true")}
    leaves = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree, (root, child) in enumerate(modes):
        layout = [(root, 1, 2), (child, 3, 4), ("LEAF", 0, 0), ("LEAF", 0, 0), ("LEAF", 0, 0)]
        for node, (mode, yes, no) in enumerate(layout):
            row = (tree, node, int(made.integers(FEATURES)), float(made.integers(-4, 5) / 4 + 0.0625), mode, yes, no, int(made.integers(2)))
            for key, value in zip(nodes, row):
                nodes[key].append(value)
            if mode == "LEAF":
                for target in range(targets):
                    row = (tree, node, target, float(made.normal()))
                    for key, value in zip(leaves, row):
                        leaves[key].append(value)
    return nodes, leaves


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
PAIRS = [(a, b) for a in MODES for b in MODES]


def one_node(node, outputs, inputs=None, extra=()):
    graph = helper.make_graph(
        [node, *extra],
        "hand made",
        inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, FEATURES])],
        outputs,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 5 if node.op_type == "TreeEnsemble" else 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def floats(name, width):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, width])


def trees_by_hand():
    for aggregate in ("SUM", "AVERAGE", "MIN", "MAX"):
        for targets in (1, 3):
            nodes, leaves = stump_forest(PAIRS, targets)
            attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"target_{k}": v for k, v in leaves.items()}
            node = helper.make_node(
                "TreeEnsembleRegressor", ["x"], ["variable"], domain="ai.onnx.ml", aggregate_function=aggregate,
                n_targets=targets, base_values=[0.5, -0.25, 1.0][:targets], **attributes,
            )
            record(f"tree_{aggregate.lower()}_{targets}", one_node(node, [floats("variable", targets)]), HOLES)
    for transform in ("LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"):
        nodes, leaves = stump_forest(PAIRS[:12], 3, seed=1)
        if transform == "PROBIT":  # defined between 0 and 1 only
            leaves["weights"] = [0.02 + 0.05 * abs(np.tanh(w)) for w in leaves["weights"]]
        attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"class_{k}": v for k, v in leaves.items()}
        node = helper.make_node(
            "TreeEnsembleClassifier", ["x"], ["label", "probabilities"], domain="ai.onnx.ml",
            classlabels_int64s=[10, 20, 30], post_transform=transform, **attributes,
        )
        label = helper.make_tensor_value_info("label", TensorProto.INT64, [None])
        record(f"tree_{transform.lower()}", one_node(node, [label, floats("probabilities", 3)]), HOLES)
    # Two classes with weights for one of them only: ONNX Runtime's special cases.
    for only in (0, 1):
        one_sided(only)
    # Two classes, weights for both.
    for name, base in (("both", None), ("both_base1", [0.5]), ("both_base2", [0.5, -0.5])):
        for transform in ("NONE", "SOFTMAX"):
            nodes, leaves = stump_forest(PAIRS[:10], 2, seed=3)
            attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"class_{k}": v for k, v in leaves.items()}
            if base:
                attributes["base_values"] = base
            node = helper.make_node(
                "TreeEnsembleClassifier", ["x"], ["label", "probabilities"], domain="ai.onnx.ml",
                classlabels_int64s=[0, 1], post_transform=transform, **attributes,
            )
            label = helper.make_tensor_value_info("label", TensorProto.INT64, [None])
            record(f"tree_binary_{name}_{transform.lower()}", one_node(node, [label, floats("probabilities", 2)]), HOLES)
    tree_ensemble_v5()


def one_sided(only):
    """Two classes with weights for one of them."""
    for name, positive, transform, base in (
        ("positive_none", True, "NONE", None), ("mixed_none", False, "NONE", None),
        ("positive_logistic", True, "LOGISTIC", None), ("mixed_logistic", False, "LOGISTIC", None),
        ("mixed_softmax", False, "SOFTMAX", None), ("positive_probit", True, "PROBIT", None),
        ("base1", False, "LOGISTIC", [0.75]), ("base2", False, "LOGISTIC", [0.25, 0.75]),
    ):
        if only == 0 and transform == "PROBIT":  # ONNX Runtime leaves the second score unwritten
            continue
        nodes, leaves = stump_forest(PAIRS[:10], 1, seed=2)
        leaves["ids"] = [only] * len(leaves["ids"])
        if positive:
            leaves["weights"] = [0.02 + 0.08 * abs(np.tanh(w)) for w in leaves["weights"]]
        attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"class_{k}": v for k, v in leaves.items()}
        if base:
            attributes["base_values"] = base
        node = helper.make_node(
            "TreeEnsembleClassifier", ["x"], ["label", "probabilities"], domain="ai.onnx.ml",
            classlabels_strings=["no", "yes"], post_transform=transform, **attributes,
        )
        label = helper.make_tensor_value_info("label", TensorProto.STRING, [None])
        record(f"tree_binary_{only}_{name}", one_node(node, [label, floats("probabilities", 2)]), HOLES)


def tree_ensemble_v5():
    """Operator set 5 of ai.onnx.ml, with a set membership."""
    def tensor(values, kind=np.float32):
        return numpy_helper.from_array(np.array(values, dtype=kind))

    members = tensor([-1.0, 0.0, 1.0, 2.0, np.nan, 1.0, 3.0, np.nan])
    node = helper.make_node(
        "TreeEnsemble", ["x"], ["variable"], domain="ai.onnx.ml",
        n_targets=2, aggregate_function=1, post_transform=0, tree_roots=[0, 2, 4],
        nodes_featureids=[0, 1, 5, 2, 3, 5], nodes_modes=numpy_helper.from_array(np.array([0, 1, 6, 3, 6, 2], dtype=np.uint8)),
        nodes_splits=tensor([0.0625, 0.3125, 0.0, -0.4375, 0.0, 0.0625]),
        nodes_truenodeids=[1, 0, 3, 3, 5, 5], nodes_trueleafs=[0, 1, 0, 1, 0, 1],
        nodes_falsenodeids=[2, 1, 2, 4, 6, 7], nodes_falseleafs=[1, 1, 1, 1, 1, 1],
        nodes_missing_value_tracks_true=[1, 0, 0, 1, 0, 0],
        membership_values=members,
        leaf_targetids=[0, 1, 0, 1, 0, 1, 0, 1], leaf_weights=tensor([0.5, -1.0, 2.0, 0.25, -0.75, 3.0, 1.5, -2.5]),
    )
    # Whole numbers, as categories are: ONNX Runtime cuts off the fraction before it looks into a set.
    probe = np.where(np.arange(FEATURES) >= 3, np.round(HOLES), HOLES).astype(np.float32)
    record("tree_v5", one_node(node, [floats("variable", 2)]), probe)


def networks_by_hand():
    """Graphs for the general engine: normalisation, convolution, several inputs, integers."""
    made = np.random.default_rng(4)

    def weight(name, *shape):
        return numpy_helper.from_array((made.normal(size=shape) / 2).astype(np.float32), name)

    def model(nodes, inputs, outputs, weights):
        graph = helper.make_graph(nodes, "hand made", inputs, outputs, weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    node = helper.make_node
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])
    record("net_layer_norm", model(
        [node("Gemm", ["x", "w1", "b1"], ["h"], transB=1), node("LayerNormalization", ["h", "g", "o"], ["n"]),
         node("Erf", ["n"], ["e"]), node("Mul", ["e", "n"], ["m"]), node("MatMul", ["m", "w2"], ["l"]), node("Softmax", ["l"], ["p"], axis=-1)],
        [x], [floats("p", 4)], [weight("w1", 12, FEATURES), weight("b1", 12), weight("g", 12), weight("o", 12), weight("w2", 12, 4)]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 6, 6])
    record("net_convolution", model(
        [node("Conv", ["image", "k", "kb"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["r"]),
         node("MaxPool", ["r"], ["q"], kernel_shape=[2, 2], strides=[2, 2]), node("Flatten", ["q"], ["f"]), node("Gemm", ["f", "w", "b"], ["y"])],
        [image], [floats("y", 3)], [weight("k", 2, 1, 3, 3), weight("kb", 2), weight("w", 18, 3), weight("b", 3)]),
        {"image": (made.normal(size=(ROWS, 1, 6, 6))).astype(np.float32)})
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 2])
    record("net_embedding", model(
        [node("Gather", ["table", "ids"], ["e"]), node("Reshape", ["e", "flat"], ["v"]), node("Concat", ["v", "x"], ["c"], axis=1),
         node("Gemm", ["c", "w", "b"], ["h"]), node("Sigmoid", ["h"], ["y"])],
        [ids, x], [floats("y", 1)],
        [weight("table", 10, 3), numpy_helper.from_array(np.array([-1, 6], dtype=np.int64), "flat"), weight("w", 12, 1), weight("b", 1)]),
        {"ids": made.integers(0, 10, size=(ROWS, 2)), "x": PROBE})
    # An ensemble between two parts for the general engine.
    nodes, leaves = stump_forest(PAIRS, 2, seed=5)
    attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"target_{k}": v for k, v in leaves.items()}
    mixed = model(
        [node("Gemm", ["x", "w1"], ["h"]), node("Clip", ["h", "low", "high"], ["c"]),
         helper.make_node("TreeEnsembleRegressor", ["c"], ["t"], domain="ai.onnx.ml", n_targets=2, **attributes),
         node("Softmax", ["t"], ["s"], axis=-1), node("ReduceMax", ["s"], ["y"], axes=[1], keepdims=1)],
        [x], [floats("s", 2), floats("y", 1)],
        [weight("w1", FEATURES, FEATURES), numpy_helper.from_array(np.float32(-2), "low"), numpy_helper.from_array(np.float32(2), "high")])
    mixed.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    record("net_mixed", mixed)


def hand_made(nodes, inputs, outputs, weights=(), opset=17):
    graph = helper.make_graph(nodes, "hand made", inputs, outputs, list(weights))
    opsets = [helper.make_opsetid("", opset)]
    if any(node.domain == "ai.onnx.ml" for node in nodes):
        opsets.append(helper.make_opsetid("ai.onnx.ml", 3))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def tensor(name, kind, *dims):
    return helper.make_tensor_value_info(name, kind, ["batch", *dims])


def constant(name, values, kind):
    return numpy_helper.from_array(np.array(values, dtype=kind), name)


# Seconds since 1970 in one column, fractions far below what a float32 tells apart in another.
WIDE = X.astype(np.float64) + np.array([1.7e9, 1e6, 0, 0, 0, 0])
WIDE_PROBE = PROBE.astype(np.float64) + np.array([1.7e9, 1e6, 0, 0, 0, 0]) + rng.normal(size=PROBE.shape) * 1e-9


def doubles():
    """Pipelines with double inputs: a float32 would lose what they tell apart."""
    first, off = WIDE[:1], {"zipmap": False}
    kind = TensorProto.DOUBLE

    def scaled(estimator, target):
        return to_onnx(make_pipeline(StandardScaler(), estimator).fit(WIDE, target), first, options=off)

    record("double_logistic", scaled(LogisticRegression(), BINARY), WIDE_PROBE)
    record("double_logistic_multi", scaled(LogisticRegression(), CLASSES), WIDE_PROBE)
    record("double_logistic_names", scaled(LogisticRegression(), NAMES), WIDE_PROBE)
    record("double_linear", to_onnx(make_pipeline(StandardScaler(), LinearRegression()).fit(WIDE, SIGNAL), first), WIDE_PROBE)
    mlp = make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=60, random_state=1)).fit(WIDE, SIGNAL)
    record("double_mlp_regressor", to_onnx(mlp, first), WIDE_PROBE)
    tanh = MLPClassifier((16,), activation="tanh", max_iter=60, random_state=1)
    record("double_mlp", scaled(tanh, CLASSES), WIDE_PROBE)
    forest = dict(n_estimators=8, max_depth=4, random_state=1)
    record("double_forest", to_onnx(RandomForestClassifier(**forest).fit(WIDE, BINARY), first, options=off), WIDE_PROBE)
    record("double_forest_multi", to_onnx(RandomForestClassifier(**forest).fit(WIDE, CLASSES), first, options=off), WIDE_PROBE)

    node, x = helper.make_node, tensor("x", kind, FEATURES)
    record("double_scaler", hand_made(
        [node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.7e9, 1e6, 0.5, 0, 0, 0], scale=[2.0, 1, 1, 3, 1, 1])],
        [x], [floats("y", FEATURES)]), WIDE_PROBE)
    for norm in ("MAX", "L1", "L2"):
        record(f"double_normalizer_{norm.lower()}", hand_made(
            [node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm=norm)], [x], [floats("y", FEATURES)]), WIDE_PROBE)
    # Thresholds that features miss by less than a float32 can say.
    nodes, leaves = stump_forest(PAIRS, 2, seed=6)
    attributes = {f"nodes_{k}": v for k, v in nodes.items() if k != "values"} | {f"target_{k}": v for k, v in leaves.items() if k != "weights"}
    attributes["nodes_values_as_tensor"] = constant("values", nodes["values"], np.float64)
    attributes["target_weights_as_tensor"] = constant("weights", leaves["weights"], np.float64)
    beside = np.round(PROBE.astype(np.float64) * 4) / 4 + 0.0625 + rng.choice([-1e-12, 0, 1e-12], size=PROBE.shape)
    record("double_trees", hand_made(
        [node("TreeEnsembleRegressor", ["x"], ["t"], domain="ai.onnx.ml", n_targets=2, **attributes)],
        [x], [floats("t", 2)]), beside)
    record("double_cast", hand_made(
        [node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Cast", ["x"], ["i"], to=TensorProto.INT64),
         node("Cast", ["f"], ["d"], to=TensorProto.DOUBLE), node("Greater", ["x", "zero"], ["b"]), node("Cast", ["b"], ["n"], to=TensorProto.INT64)],
        [x], [floats("f", FEATURES), tensor("i", TensorProto.INT64, FEATURES), tensor("d", kind, FEATURES), tensor("n", TensorProto.INT64, FEATURES)],
        [constant("zero", [0.0], np.float64)]), WIDE_PROBE)
    record("double_gemm", hand_made(
        [node("Gemm", ["x", "w", "b"], ["h"], alpha=0.5, beta=2.0, transB=1), node("Tanh", ["h"], ["t"]), node("Softmax", ["t"], ["y"], axis=-1)],
        [x], [tensor("y", kind, 3)], [constant("w", rng.normal(size=(3, FEATURES)) * 1e-9, np.float64), constant("b", [0.1, 0.2, 0.3], np.float64)]), WIDE_PROBE)


def whole_numbers():
    """Inputs and outputs of int64, int32 and bool: ids, categories, flags."""
    node = helper.make_node
    ids = (np.int64(1) << 53) + 1 + rng.integers(0, 1 << 40, size=(ROWS, 1)) * 3
    record("int64_next", hand_made(
        [node("Add", ["id", "one"], ["next"]), node("Mod", ["id", "two"], ["odd"])],
        [tensor("id", TensorProto.INT64, 1)], [tensor("next", TensorProto.INT64, 1), tensor("odd", TensorProto.INT64, 1)],
        [constant("one", [1], np.int64), constant("two", [2], np.int64)]), {"id": ids})
    record("int64_same", hand_made(
        [node("Identity", ["id"], ["same"])], [tensor("id", TensorProto.INT64, 1)], [tensor("same", TensorProto.INT64, 1)]), {"id": ids})
    table = constant("table", rng.normal(size=(50, 4)) / 2, np.float32)
    record("int64_embedding", hand_made(
        [node("Gather", ["table", "user"], ["e"]), node("ReduceSum", ["e", "last"], ["s"], keepdims=1), node("Sigmoid", ["s"], ["y"])],
        [tensor("user", TensorProto.INT64)], [floats("y", 1)], [table, constant("last", [1], np.int64)]),
        {"user": rng.integers(-50, 50, size=ROWS)})
    record("int32_embedding", hand_made(
        [node("Gather", ["table", "user"], ["e"]), node("ReduceSum", ["e", "last"], ["y"], keepdims=1), node("Add", ["user", "one"], ["n"])],
        [tensor("user", TensorProto.INT32)], [floats("y", 1), tensor("n", TensorProto.INT32)],
        [table, constant("last", [1], np.int64), constant("one", [1], np.int32)]),
        {"user": rng.integers(0, 50, size=ROWS).astype(np.int32)})
    record("bool_where", hand_made(
        [node("Where", ["flag", "x", "low"], ["w"]), node("ReduceMean", ["w"], ["y"], axes=[1], keepdims=1), node("Not", ["flag"], ["n"])],
        [tensor("flag", TensorProto.BOOL, 1), tensor("x", TensorProto.FLOAT, FEATURES)],
        [floats("y", 1), tensor("n", TensorProto.BOOL, 1)], [constant("low", [-1.0], np.float32)]),
        {"flag": rng.random((ROWS, 1)) < 0.5, "x": PROBE})
    # A forest over whole numbers, as ordinal encoders give.
    nodes, leaves = stump_forest(PAIRS, 3, seed=7)
    attributes = {f"nodes_{k}": v for k, v in nodes.items()} | {f"class_{k}": v for k, v in leaves.items()}
    record("int64_trees", hand_made(
        [node("TreeEnsembleClassifier", ["x"], ["l", "t"], domain="ai.onnx.ml", classlabels_int64s=[1 << 40, -7, 2], **attributes)],
        [tensor("x", TensorProto.INT64, FEATURES)], [tensor("l", TensorProto.INT64), floats("t", 3)]), rng.integers(-3, 4, size=(ROWS, FEATURES)))


def recurrent():
    """Recurrent operators: every row starts from the initial state."""
    node, made = helper.make_node, np.random.default_rng(8)

    def weight(name, *shape):
        return constant(name, made.normal(size=shape) / 2, np.float32)

    x = tensor("x", TensorProto.FLOAT, FEATURES)
    axes = [constant("two", [2], np.int64), constant("zero", [0], np.int64), constant("last", [1], np.int64)]
    sequence = [node("Unsqueeze", ["x", "two"], ["u"]), node("Transpose", ["u"], ["t"], perm=[1, 0, 2])]
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}
    for operator, count in gates.items():
        record(f"rnn_{operator.lower()}", hand_made(
            [*sequence, node(operator, ["t", "w", "r", "b"], ["", "h"], hidden_size=4), node("Squeeze", ["h", "zero"], ["s"]),
             node("ReduceMean", ["s"], ["y"], axes=[1], keepdims=1)],
            [x], [floats("s", 4), floats("y", 1)], [weight("w", 1, 4 * count, 1), weight("r", 1, 4 * count, 4), weight("b", 1, 8 * count), *axes]))
    record("rnn_gru_linear", hand_made(
        [*sequence, node("GRU", ["t", "w", "r", "b"], ["", "h"], hidden_size=4, linear_before_reset=1), node("Squeeze", ["h", "zero"], ["y"])],
        [x], [floats("y", 4)], [weight("w", 1, 12, 1), weight("r", 1, 12, 4), weight("b", 1, 24), *axes]))
    record("rnn_lstm_both_ways", hand_made(
        [*sequence, node("LSTM", ["t", "w", "r", "b"], ["q"], hidden_size=3, direction="bidirectional"),
         node("Transpose", ["q"], ["p"], perm=[2, 0, 1, 3]), node("Reshape", ["p", "flat"], ["y"])],
        [x], [floats("y", 6 * FEATURES)], [weight("w", 2, 12, 1), weight("r", 2, 12, 3), weight("b", 2, 24), constant("flat", [-1, 6 * FEATURES], np.int64), *axes]))
    # The initial state comes out of the features.
    record("rnn_lstm_initial", hand_made(
        [*sequence, node("Slice", ["x", "zero", "four", "last"], ["first"]), node("Unsqueeze", ["first", "zero"], ["h0"]),
         node("LSTM", ["t", "w", "r", "b", "", "h0", "h0"], ["", "h", "c"], hidden_size=4), node("Squeeze", ["h", "zero"], ["y"]), node("Squeeze", ["c", "zero"], ["z"])],
        [x], [floats("y", 4), floats("z", 4)], [weight("w", 1, 16, 1), weight("r", 1, 16, 4), weight("b", 1, 32), constant("four", [4], np.int64), *axes]))
    # One step of time only.
    record("rnn_lstm_one_step", hand_made(
        [node("Unsqueeze", ["x", "zero"], ["t"]), node("LSTM", ["t", "w", "r"], ["", "h"], hidden_size=4), node("Squeeze", ["h", "zero"], ["y"])],
        [x], [floats("y", 4)], [weight("w", 1, 16, FEATURES), weight("r", 1, 16, 4), *axes]))
    record("rnn_two_layers", hand_made(
        [*sequence, node("LSTM", ["t", "w", "r"], ["q"], hidden_size=4), node("Squeeze", ["q", "last"], ["q3"]),
         node("GRU", ["q3", "w2", "r2"], ["", "h"], hidden_size=3), node("Squeeze", ["h", "zero"], ["y"])],
        [x], [floats("y", 3)], [weight("w", 1, 16, 1), weight("r", 1, 16, 4), weight("w2", 1, 9, 4), weight("r2", 1, 9, 3), *axes]))


def mixing():
    """Rows that change each other's answers when they are run together: each is recorded alone."""
    node, made = helper.make_node, np.random.default_rng(9)
    x = tensor("x", TensorProto.FLOAT, FEATURES)

    def one(name, nodes, width=FEATURES, weights=()):
        record(f"mix_{name}", hand_made(nodes, [x], [floats("y", width)], weights), alone=True)

    one("mean", [node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["x", "m"], ["y"])])
    one("max", [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Div", ["x", "m"], ["y"])])
    one("softmax", [node("Softmax", ["x"], ["y"], axis=0)])
    one("cumsum", [node("CumSum", ["x", "first0"], ["y"])], weights=[constant("first0", 0, np.int64)])
    one("attention", [node("Transpose", ["x"], ["t"], perm=[1, 0]), node("MatMul", ["x", "t"], ["s"]), node("Softmax", ["s"], ["a"], axis=-1), node("MatMul", ["a", "x"], ["y"])])
    # How many rows there are is part of the answer.
    one("count", [node("Shape", ["x"], ["s"], start=0, end=1), node("Cast", ["s"], ["n"], to=TensorProto.FLOAT), node("Div", ["x", "n"], ["y"])])
    # The row's place in the batch is part of the answer.
    one("place", [node("Mul", ["x", "nothing"], ["o"]), node("Add", ["o", "ones"], ["e"]), node("CumSum", ["e", "first0"], ["c"]), node("Mul", ["x", "c"], ["y"])],
        weights=[constant("nothing", [0.0], np.float32), constant("ones", [1.0], np.float32), constant("first0", 0, np.int64)])
    # Only beyond a threshold, so that ordinary rows do not show it.
    one("threshold", [node("ReduceMax", ["x"], ["m"], axes=[0], keepdims=1), node("Sub", ["m", "high"], ["d"]), node("Relu", ["d"], ["r"]), node("Add", ["x", "r"], ["y"])],
        weights=[constant("high", [1000.0], np.float32)])
    # The largest three of each column: the answer of a row is whether it is among them.
    one("top", [node("TopK", ["x", "k"], ["v", "i"], axis=0, largest=1), node("Sub", ["x", "v"], ["y"])], weights=[constant("k", [1], np.int64)])

    def quantized(name, model):
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with tempfile.TemporaryDirectory() as folder:
            source, target = pathlib.Path(folder, "float.onnx"), pathlib.Path(folder, "int8.onnx")
            source.write_bytes(model.SerializeToString())
            quantize_dynamic(source, target, weight_type=QuantType.QInt8)
            record(name, target.read_bytes(), alone=True)

    def weight(name, *shape):
        return constant(name, made.normal(size=shape) / 2, np.float32)

    quantized("mix_quantized", hand_made(
        [node("MatMul", ["x", "w1"], ["h"]), node("Add", ["h", "b1"], ["g"]), node("Relu", ["g"], ["r"]), node("MatMul", ["r", "w2"], ["z"]), node("Sigmoid", ["z"], ["y"])],
        [x], [floats("y", 1)], [weight("w1", FEATURES, 8), weight("b1", 8), weight("w2", 8, 1)]))


def apart():
    """Operators that look as if they mixed rows, and do not."""
    node, made = helper.make_node, np.random.default_rng(10)
    x = tensor("x", TensorProto.FLOAT, FEATURES)

    def weight(name, *shape):
        return constant(name, made.normal(size=shape) / 2, np.float32)

    def one(name, nodes, width=FEATURES, weights=()):
        record(f"apart_{name}", hand_made(nodes, [x], [floats("y", width)], weights))

    one("softmax", [node("Softmax", ["x"], ["s"], axis=1), node("CumSum", ["s", "last"], ["y"])], weights=[constant("last", 1, np.int64)])
    one("top", [node("TopK", ["x", "k"], ["y", "i"], axis=1, largest=1)], 3, [constant("k", [3], np.int64)])
    one("attention", [node("Reshape", ["x", "words"], ["w"]), node("Transpose", ["w"], ["t"], perm=[0, 2, 1]), node("MatMul", ["w", "t"], ["s"]),
                      node("Softmax", ["s"], ["a"], axis=-1), node("MatMul", ["a", "w"], ["v"]), node("Reshape", ["v", "flat"], ["y"])],
        weights=[constant("words", [-1, 3, 2], np.int64), constant("flat", [-1, FEATURES], np.int64)])
    one("batch_norm", [node("BatchNormalization", ["x", "g", "b", "m", "v"], ["y"])], weights=[constant(name, np.arange(1, FEATURES + 1), np.float32) for name in "gbmv"])
    one("reshape_by_shape", [node("Shape", ["x"], ["s"], start=0, end=1), node("Concat", ["s", "rest"], ["target"], axis=0), node("Reshape", ["x", "target"], ["w"]), node("ReduceMean", ["w"], ["y"], axes=[2])],
        3, [constant("rest", [3, 2], np.int64)])
    one("wide", [node("MatMul", ["x", "w1"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "w2"], ["z"]), node("LayerNormalization", ["z", "g", "o"], ["y"])],
        16, [weight("w1", FEATURES, 300), weight("w2", 300, 16), weight("g", 16), weight("o", 16)])
    one("pool", [node("Reshape", ["x", "image"], ["i"]), node("AveragePool", ["i"], ["p"], kernel_shape=[2, 2]), node("Flatten", ["p"], ["y"])], 2, [constant("image", [-1, 1, 2, 3], np.int64)])
    one("pick", [node("ArgMax", ["x"], ["i"], axis=1, keepdims=1), node("GatherElements", ["x", "i"], ["y"], axis=1)], 1)
    one("instance_norm", [node("Reshape", ["x", "image"], ["i"]), node("InstanceNormalization", ["i", "g", "o"], ["n"]), node("Flatten", ["n"], ["y"])],
        weights=[constant("image", [-1, 2, 3], np.int64), weight("g", 2), weight("o", 2)])


if __name__ == "__main__":
    for old in [*HERE.glob("*.onnx"), *HERE.glob("*.json")]:
        if wanted(old.name):
            old.unlink()
    sklearn_zoo()
    lightgbm_zoo()
    trees_by_hand()
    networks_by_hand()
    doubles()
    whole_numbers()
    recurrent()
    mixing()
    apart()
    size = sum(path.stat().st_size for path in HERE.iterdir())
    print(f"{len(list(HERE.glob('*.onnx')))} models, {size:,} bytes")
