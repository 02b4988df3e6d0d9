"""Specialists beside the models that a user would pick instead, on the same folds, in the same run.

    python benchmarks/tabular.py [--seeds 5] [--only churn,adult] [--json out.json]

For every table: ROC AUC of `solve`'s chosen specialist, of LightGBM and of logistic regression (both with
their defaults), pooled over the same test rows, mean and spread over seeds, and the ratio to the better peer.
Churn, adult census and bank marketing are read from ALEXANDRA_DATA or ../shared/data and skipped without it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import pandas as pd
from delivery import deliver
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from alexandra.api import operations
from alexandra.ir.weights import WeightSet
from alexandra.lang.task_spec import DataSource, Split, Task
from alexandra.registry.store import Registry
from alexandra.rng import derive
from alexandra.train.prepare import Prepared
from alexandra.train.solve import Solution

DATA = Path(os.environ.get("ALEXANDRA_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@dataclass(frozen=True)
class Case:
    name: str
    source: DataSource
    target: str
    positive: str = ""
    drop: tuple[str, ...] = ()
    score: str = "roc_auc"


CASES = (
    Case("churn", DataSource.csv("telco_churn/telco.csv.gz"), "Churn", "Yes", ("customerID",)),
    Case("adult", DataSource.csv("adult_census/adult.csv.gz"), "class"),
    Case("bank", DataSource.csv("bank_marketing/bank.csv.gz"), "y", "yes", ("duration",)),
    Case("breast_cancer", DataSource.bundled("breast_cancer"), "target"),
    Case("digits", DataSource.bundled("digits"), "target", score="accuracy"),
)


def frame(data: Prepared) -> pd.DataFrame:
    """The prepared features as a data frame: floats and categories, as both peers expect."""
    columns = {}
    for name in data.features:
        column = data.table[name]
        if column.kind == "number":
            columns[name] = pd.Series(column.values.astype(float))
        else:
            columns[name] = pd.Series(np.where(column.missing, "missing", column.values.astype(str))).astype("category")
    return pd.DataFrame(columns)


def logistic(x: pd.DataFrame) -> object:
    """One-hot and standardised, defaults otherwise; more iterations so that it converges."""
    numbers = [name for name in x if x[name].dtype == float]
    others = [name for name in x if x[name].dtype != float]
    coder = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("c", OneHotEncoder(handle_unknown="ignore"), others),
        ]
    )
    return make_pipeline(coder, LogisticRegression(max_iter=2000))


def peers(data: Prepared, score: str) -> dict[str, float]:
    """Each peer trained on train + validation rows of every part, its answers to the test rows pooled."""
    from lightgbm import LGBMClassifier

    x = frame(data)
    out = {}
    for name, make in (("lightgbm", lambda: LGBMClassifier(verbose=-1, n_jobs=2)), ("logistic", lambda: logistic(x))):
        answers, rows = [], []
        for part in data.parts:
            train = np.concatenate([part.train, part.valid])
            model = make().fit(x.iloc[train], data.y[train])
            answers.append(model.predict_proba(x.iloc[part.test]))
            rows.append(part.test)
        out[name] = measured(data, np.concatenate(answers), np.concatenate(rows), score)
    return out


def measured(data: Prepared, raw: np.ndarray, rows: np.ndarray, score: str) -> float:
    y = data.y[rows]
    if score == "accuracy":
        return float(accuracy_score(y, raw.argmax(axis=1)))
    return float(roc_auc_score(y == data.target.positive, raw[:, data.target.positive]))


def shuffled_weights(solution: Solution, seed: int, score: str, times: int = 20) -> float:
    """The mean score of the registered network with every weight tensor permuted: chance, if the scoring is right."""
    model, table = solution.specialist.model, solution.data.table
    own, found = model.weights, []
    for time_ in range(times):
        order = {name: derive(seed, "permute", time_, name).permutation(array.size) for name, array in own.items()}
        mixed = {name: array.reshape(-1)[order[name]].reshape(array.shape) for name, array in own.items()}
        model.load(WeightSet(mixed))
        found.append(measured(solution.data, solution.specialist.predict_raw(table), np.arange(table.n_rows), score))
    model.load(own)
    return float(np.mean(found))


def one(case: Case, seed: int, folder: Path) -> dict[str, float]:
    task = Task(case.source, case.target, case.name, positive=case.positive, drop=case.drop, folder=str(DATA))
    task = replace(task, split=Split(seed=seed))
    began = time.perf_counter()
    solution = operations.solve(task, registry=Registry(folder / "registry"), runs=folder / "runs", promote=False)
    seconds = time.perf_counter() - began
    fits = [fit for fit in solution.fits if fit.name == solution.best]
    raw = np.concatenate([fit.test for fit in fits])
    found = {"alexandra": measured(solution.data, raw, solution.data.test_rows, case.score), "seconds": seconds}
    for row in solution.rows:
        mine = np.concatenate([fit.test for fit in solution.fits if fit.name == row.name])
        found[f"all/{row.name}"] = measured(solution.data, mine, solution.data.test_rows, case.score)
    found["shuffled_weights"] = shuffled_weights(solution, seed, case.score)
    rng = np.random.default_rng(seed)
    found["shuffled_answers"] = measured(
        solution.data, raw[rng.permutation(len(raw))], solution.data.test_rows, case.score
    )
    return {**found, **peers(solution.data, case.score)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    wanted = set(options.only.split(",")) - {""}
    report = {}
    for case in CASES:
        if wanted and case.name not in wanted:
            continue
        if case.source.kind == "csv" and not (DATA / case.source.location).is_file():
            print(f"{case.name}: skipped, no {DATA / case.source.location}", file=sys.stderr)
            continue
        runs = []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(one(case, seed, Path(folder)))
            print(f"{case.name} seed {seed}: {runs[-1]}", file=sys.stderr)
        report[case.name] = summary(case, runs)
    deliver(report, options.json)


def summary(case: Case, runs: list[dict[str, float]]) -> dict[str, object]:
    names = sorted(set.intersection(*(set(run) for run in runs)))
    mean = {name: round(float(np.mean([run[name] for run in runs])), 4) for name in names}
    spread = {name: round(float(np.std([run[name] for run in runs])), 4) for name in names}
    best = max(mean["lightgbm"], mean["logistic"])
    return {
        "metric": case.score,
        "n": len(runs),
        "mean": mean,
        "spread": spread,
        "better_peer": best,
        "difference": round(mean["alexandra"] - best, 4),
        "ratio": round(mean["alexandra"] / best, 4),
    }


if __name__ == "__main__":
    main()
