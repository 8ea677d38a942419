#!/usr/bin/env python3
"""Trains the demo's models on ../data and records what they say offline.

Writes logistic.onnx, mlp.onnx, lightgbm.onnx, costly.onnx, window.onnx, offline.json,
offline_predictions.csv.gz and offline_features.csv.gz beside this file. What the features and the
label mean is written in FEATURES.md. The environment is set up by ../training/setup.sh.
"""

import gzip
import hashlib
import json
import pathlib
import warnings

import lightgbm
import numpy as np
import onnxruntime
import pandas as pd
from onnx import TensorProto, helper, load_from_string, numpy_helper
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parent / "data"
DAY = 86_400_000
TYPE_TTL = HOUSEHOLD_TTL = 90 * DAY
BASKET_TTL = DAY
HORIZON = 14 * DAY
TRAIN_SHARE = 0.7
FEATURES = [
    "quantity", "sales_value", "retail_disc", "hour", "is_private", "type_count", "days_since",
    "spend_type_mean", "household_count", "household_mean_value", "basket_total", "basket_lines",
]
WINDOW_FEATURES = ["day_lines", "day_spend", "day_quantity", "day_mean_value", "day_max_value"]
FEATURE_SAMPLE = 5_000


def load() -> pd.DataFrame:
    """Events in file order, with the time in ms and what the products table adds."""
    events = pd.read_csv(DATA / "transactions.csv.gz")
    products = pd.read_csv(DATA / "products.csv.gz", keep_default_na=False)
    times = pd.to_datetime(events["transaction_timestamp"], utc=True)
    events["time"] = times.astype("datetime64[ms, UTC]").astype("int64")
    events["hour"] = times.dt.hour
    known = products.set_index("product_id")
    events["product_type"] = events["product_id"].map(known["product_type"])
    events["is_private"] = (events["product_id"].map(known["brand"]) == "Private").astype(int)
    assert events["time"].is_monotonic_increasing
    return events


def state(events: pd.DataFrame, by: list, ttl: int) -> pd.DataFrame:
    """Count, sum and last time of the earlier events of one key, as before each event.

    Events of one key fall into lives: a gap of at least `ttl` ends one, and the next starts empty.
    Rows whose key is missing have no state.
    """
    whole = events[by].notna().all(axis=1)
    rows = events[whole]
    groups = rows.groupby(by, sort=False)
    gap = rows["time"] - groups["time"].shift()
    life = (gap >= ttl).groupby([rows[column] for column in by], sort=False).cumsum()
    lives = rows.groupby([rows[column] for column in by] + [life.rename("life")], sort=False)
    value = rows["sales_value"].astype("float64")
    count = lives.cumcount()
    # A running sum from the first event on, one addition after the other, as online.
    total = lives["sales_value"].transform(lambda values: np.concatenate([[0.0], np.cumsum(values.to_numpy())[:-1]]))
    last = lives["time"].shift()
    made = pd.DataFrame({"count": count, "sum": total, "last": last}, index=rows.index)
    assert len(value) == len(made)
    return made.reindex(events.index)


def features(events: pd.DataFrame) -> pd.DataFrame:
    """All features of FEATURES.md as float32."""
    kind = state(events, ["household_id", "product_type"], TYPE_TTL)
    household = state(events, ["household_id"], HOUSEHOLD_TTL)
    basket = state(events, ["household_id", "basket_id"], BASKET_TTL)

    def mean(frame):
        return (frame["sum"] / frame["count"].where(frame["count"] > 0)).fillna(0.0)

    made = events[["quantity", "sales_value", "retail_disc", "hour", "is_private"]].copy()
    made["type_count"] = kind["count"].fillna(0)
    made["days_since"] = ((events["time"] - kind["last"]) / DAY).fillna(-1.0)
    made["spend_type_mean"] = mean(kind)
    made["household_count"] = household["count"]
    made["household_mean_value"] = mean(household)
    made["basket_total"] = basket["sum"]
    made["basket_lines"] = basket["count"]
    return made[FEATURES].astype("float32")


def labels(events: pd.DataFrame) -> pd.Series:
    """1, 0, or NaN where it cannot be known."""
    rows = events[events["product_type"].notna()]
    # The next strictly later time of the key: of the distinct times, the one after.
    times = rows[["household_id", "product_type", "time"]].drop_duplicates()
    times["next"] = times.groupby(["household_id", "product_type"], sort=False)["time"].shift(-1)
    following = rows.merge(times, on=["household_id", "product_type", "time"], how="left", validate="m:1")["next"]
    label = pd.Series((following.to_numpy() - rows["time"].to_numpy() <= HORIZON).astype(float), index=rows.index)
    label[rows["time"] > events["time"].max() - HORIZON] = np.nan
    return label.reindex(events.index)


def daily(events: pd.DataFrame):
    """Features per household and day, and whether more than 50 dollars follow within 7 days."""
    day = (events["time"] // DAY).rename("day")
    groups = events.groupby([events["household_id"], day])
    made = groups.agg(
        day_lines=("sales_value", "size"), day_spend=("sales_value", "sum"), day_quantity=("quantity", "sum"),
        day_mean_value=("sales_value", "mean"), day_max_value=("sales_value", "max"),
    ).reset_index()
    spend = made.pivot(index="day", columns="household_id", values="day_spend")
    spend = spend.reindex(range(int(made["day"].min()), int(made["day"].max()) + 1)).fillna(0.0)
    week = spend[::-1].rolling(7, min_periods=1).sum()[::-1].shift(-1).fillna(0.0)
    following = week.stack().rename("following").reset_index()
    made = made.merge(following, on=["household_id", "day"])
    made = made[made["day"] <= made["day"].max() - 7]
    return made.sort_values(["day", "household_id"], ignore_index=True)


def shrink(onnx: bytes) -> bytes:
    """Large weights as 16-bit floats with a Cast behind them: half the size of the file."""
    model = load_from_string(onnx)
    casts = []
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype == np.float32 and weights.size > 10_000:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), name + "_half"))
            casts.append(helper.make_node("Cast", [name + "_half"], [name], to=TensorProto.FLOAT))
    nodes = casts + list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()


def ask(onnx: bytes, rows: np.ndarray) -> np.ndarray:
    """The probability of class 1 by ONNX Runtime."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    step = 20_000
    parts = [session.run(["probabilities"], {"X": rows[i : i + step]})[0][:, 1] for i in range(0, len(rows), step)]
    return np.concatenate(parts)


def exported(model, width: int) -> bytes:
    example = np.zeros((1, width), dtype=np.float32)
    return to_onnx(model, example, options={"zipmap": False}, target_opset=17).SerializeToString()


def write_csv(frame: pd.DataFrame, name: str) -> None:
    text = frame.to_csv(index=False, lineterminator="\n").encode()
    with open(HERE / name, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text)


def main() -> None:
    events = load()
    x, y = features(events), labels(events)
    assert not x.isna().any().any()
    cut = int(len(events) * TRAIN_SHARE)
    known = y.notna().to_numpy()
    # The label of a purchase looks 14 days ahead; those whose answer lies behind the cut are not trained on.
    early = (events["time"] <= events["time"].iloc[cut] - HORIZON).to_numpy()
    train, test = known & early, known & (np.arange(len(events)) >= cut)
    rows, target = x.to_numpy(), y.to_numpy()

    def fit(model):
        return model.fit(rows[train], target[train].astype(np.int64))

    networks = dict(batch_size=512, random_state=1, learning_rate_init=2e-3)
    made = {
        "logistic": exported(fit(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))), len(FEATURES)),
        "mlp": exported(fit(make_pipeline(StandardScaler(), MLPClassifier((32, 16), max_iter=12, **networks))), len(FEATURES)),
        "costly": shrink(exported(fit(make_pipeline(StandardScaler(), MLPClassifier((512, 512, 512), max_iter=1, **networks))), len(FEATURES))),
    }
    trees = lightgbm.LGBMClassifier(n_estimators=100, num_leaves=31, learning_rate=0.05, random_state=1, n_jobs=2, deterministic=True, force_row_wise=True, verbose=-1)
    made["lightgbm"] = convert_lightgbm(fit(trees), initial_types=[("X", FloatTensorType([None, len(FEATURES)]))], zipmap=False, target_opset=15).SerializeToString()

    record = {
        "features": FEATURES, "train_share": TRAIN_SHARE, "first_test_event": cut, "events": len(events),
        "label_known_until_ms": int(events["time"].max() - HORIZON), "horizon_days": 14,
        "auc_note": "ROC AUC over every event from first_test_event on whose label is known", "models": {},
    }
    predictions = pd.DataFrame({"event": np.arange(len(events)), "label": [("" if np.isnan(v) else str(int(v))) for v in target]})
    for name in ("logistic", "mlp", "lightgbm", "costly"):
        onnx = made[name]
        (HERE / f"{name}.onnx").write_bytes(onnx)
        score = ask(onnx, rows)
        predictions[name] = [f"{v:.6g}" for v in score]
        record["models"][name] = {
            "file": f"{name}.onnx", "sha256": hashlib.sha256(onnx).hexdigest(), "bytes": len(onnx), "features": FEATURES,
            "output": "probabilities[1]", "auc": round(float(roc_auc_score(target[test], score[test])), 6), "auc_events": int(test.sum()),
        }

    window = daily(events)
    later = window["day"] >= window["day"].quantile(TRAIN_SHARE)
    pane, again = window[WINDOW_FEATURES].to_numpy(dtype=np.float32), (window["following"] > 50).to_numpy().astype(np.int64)
    onnx = exported(make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)).fit(pane[~later], again[~later]), len(WINDOW_FEATURES))
    (HERE / "window.onnx").write_bytes(onnx)
    record["models"]["window"] = {
        "file": "window.onnx", "sha256": hashlib.sha256(onnx).hexdigest(), "bytes": len(onnx), "features": WINDOW_FEATURES,
        "output": "probabilities[1]", "auc": round(float(roc_auc_score(again[later], ask(onnx, pane)[later])), 6), "auc_events": int(later.sum()),
    }

    write_csv(predictions, "offline_predictions.csv.gz")
    chosen = np.unique(np.linspace(0, len(events) - 1, FEATURE_SAMPLE).astype(int))
    shown = x.iloc[chosen].map(lambda value: f"{value:.9g}")
    shown.insert(0, "event", chosen)
    write_csv(shown, "offline_features.csv.gz")
    (HERE / "offline.json").write_text(json.dumps(record, indent=2) + "\n")
    for name, model in record["models"].items():
        print(f"{name}: {model['bytes']:,} bytes, AUC {model['auc']:.4f} over {model['auc_events']:,}")
    print(f"label known for {known.sum():,}, positive {np.nanmean(target):.3f}, trained on {train.sum():,}")


if __name__ == "__main__":
    main()
