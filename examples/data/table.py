"""Purchase events to a registered churn specialist that reads events: `python examples/data/table.py [FOLDER]`.

leavers.task declares the steps (BEHAVIOUR, ENCODE); the same as a command, once the events are written:
`alexandra solve leavers.task`, then `alexandra ask leavers --file purchases.csv --out scored.csv`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

import alexandra as ax
from alexandra.rng import derive
from alexandra.tables import Table

CUSTOMERS, START = 1500, np.datetime64("2023-01-01")
COUNTRIES = ("AT", "BE", "CH", "DE", "DK", "ES", "FI", "FR", "IE", "IT", "NL", "NO", "PL", "PT", "SE")
PRODUCTS = ("tea", "coffee", "cups", "honey", "biscuits")


def purchases() -> Table:
    """A year of purchases: customers buy at their own pace, and the country decides how many lose interest."""
    rows: list[tuple[str, str, float, str, str]] = []
    for number in range(CUSTOMERS):
        draws = derive(0, "customer", number).uniform(200)
        country = int(draws[4] * len(COUNTRIES))
        loyal = draws[2] > 0.25 + 0.5 * country / len(COUNTRIES)
        pace, stops = 5 + 40 * draws[0], 400.0 if loyal else 90 + 400 * draws[1]
        day, place = 60 * draws[3], 5
        while day < min(stops, 364) and place < 197:
            date = str(START + np.timedelta64(int(day), "D"))
            paid, product = round(5 + 50 * float(draws[place]), 2), PRODUCTS[int(5 * draws[place + 2])]
            rows.append((f"c{number}", date, paid, product, COUNTRIES[country]))
            day, place = day + pace * (0.5 + draws[place + 1]), place + 3
    rows.append(("c0", "2023-12-31", 1.0, "tea", "AT"))
    names = ("customer", "date", "paid", "product", "country")
    return Table.from_any({name: [row[i] for row in rows] for i, name in enumerate(names)})


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    purchases().to_csv(folder / "purchases.csv")
    shutil.copy(Path(__file__).with_name("leavers.task"), folder)
    solution = ax.solve(
        str(folder / "leavers.task"), registry=str(folder / "registry"), runs=folder / "runs", budget="60s"
    )
    for entry in solution.leaderboard:
        print(f"{entry['name']:16} roc_auc {entry['roc_auc']:.3f} {'registered' if entry['passed'] else ''}")
    leavers = ax.load("leavers", registry=str(folder / "registry"))
    probabilities = leavers.predict_proba(str(folder / "purchases.csv"))
    chance = probabilities[:, leavers.classes.index("yes")]
    print(f"{len(chance)} customers asked about by their events; {int((chance > 0.5).sum())} are likely to leave")


if __name__ == "__main__":
    main()
