"""Purchase events to a registered churn specialist: `python examples/data/table.py [FOLDER]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

import alexandra as ax
from alexandra.data.behaviour import Behaviour, behaviour, with_label
from alexandra.rng import derive
from alexandra.tables import Table

CUSTOMERS, START = 500, np.datetime64("2023-01-01")
STEPS = Behaviour(entity="customer", time="date", amount="paid", cutoff="2023-10-01", windows=(30, 90))


def raw_events() -> Table:
    """Customers buy at their own pace; half of them lose interest at some day."""
    rows: list[tuple[str, str, float]] = []
    for number in range(CUSTOMERS):
        draws = derive(0, "customer", number).uniform(200)
        pace, stops = 5 + 40 * draws[0], 90 + 400 * draws[1] if draws[2] < 0.5 else 400.0
        day, place = 60 * draws[3], 4
        while day < min(stops, 364) and place < 199:
            date = START + np.timedelta64(int(day), "D")
            rows.append((f"c{number}", str(date), round(5 + 50 * float(draws[place]), 2)))
            day, place = day + pace * (0.5 + draws[place + 1]), place + 2
    rows.append(("c0", "2023-12-31", 1.0))
    names = ("customer", "date", "paid")
    return Table.from_any({name: [row[i] for row in rows] for i, name in enumerate(names)})


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    events = raw_events()
    table = with_label(behaviour(events, STEPS), events, STEPS, days=90)
    path = folder / "customers.csv"
    table.drop(["customer"]).to_csv(path)
    solution = ax.solve(str(path), target="churned", registry=str(folder / "registry"), budget="20s")
    for entry in solution.leaderboard:
        print(f"{entry['name']:16} roc_auc {entry['roc_auc']:.3f} {'registered' if entry['passed'] else ''}")


if __name__ == "__main__":
    main()
