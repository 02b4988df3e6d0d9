"""Labelled claims out of the data sets: (claim, is it true) lists, true and false in equal numbers where possible.

Nothing here judges. False claims differ from true ones in one place: an answer, a number, a value of a plan.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.optimize import Bounds, LinearConstraint, milp

from alexandra.records import Claim
from alexandra.verifiers.claims import Code, Expression, Formulas, Plan, Swap, TableStatement
from alexandra.verifiers.notations import english
from alexandra.verifiers.tools import valid_time

DATA = Path(os.environ.get("ALEXANDRA_DATA", "../shared/data"))
Labelled = list[tuple[Claim, bool]]


def read(path: str) -> str:
    return gzip.decompress((DATA / path).read_bytes()).decode("utf-8", "replace")


def rows(path: str) -> Iterator[Any]:
    return (json.loads(line) for line in read(path).splitlines() if line.strip())


def proofwriter(n: int, seed: int = 0) -> Labelled:
    """Every second claim gives a wrong answer."""
    items = json.loads(read("logic/ProofWriter/train.json.gz"))
    source = np.random.default_rng(seed)
    out: Labelled = []
    for i in source.permutation(len(items))[:n]:
        item = items[i]
        right = {"A": "true", "B": "false", "C": "unknown"}[item["answer"]]
        wrong = [one for one in ("true", "false", "unknown") if one != right][int(source.integers(2))]
        true = len(out) % 2 == 0
        statement = item["question"].rpartition("?")[2].strip()
        out.append((Claim("logic", english.claim(item["context"], statement, right if true else wrong)), true))
    return out


def folio_premises(n: int) -> Labelled:
    """The gold formulas of a story's premises, which should have a model."""
    seen: dict[int, Claim] = {}
    for row in rows("folio/folio-train.jsonl.gz"):
        seen.setdefault(row["story_id"], Claim("formulas", Formulas(tuple(row["premises-FOL"]), "", "consistent")))
    return [(claim, True) for claim in list(seen.values())[:n]]


def sentiment(file: str, n: int) -> Labelled:
    """Clearly rated snippets (at least 1 of 4 from neutral), half of them filed under the wrong sentiment."""
    out: Labelled = []
    for line in read(f"sentiment/{file}").splitlines():
        parts = line.split("\t")
        if len(parts) < 3 or abs(float(parts[1])) < 1:
            continue
        right = "positive" if float(parts[1]) > 0 else "negative"
        wrong = "negative" if right == "positive" else "positive"
        true = len(out) % 2 == 0
        out.append((Claim("text", parts[2], {"sentiment": right if true else wrong}), true))
    return out[:n]


def tables(n: int, seed: int = 0) -> Labelled:
    """Sentences about the churn table; truth by polars, not by the tool's database."""
    path = next((DATA / "telco_churn").glob("*.csv*"))
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    frame = pl.read_csv(io.BytesIO(data)).head(1000)
    columns = {
        name: tuple(frame[name].to_list()) for name in ("gender", "tenure", "Contract", "MonthlyCharges", "Churn")
    }
    source = np.random.default_rng(seed)
    out: Labelled = []
    while len(out) < n:
        column = ("tenure", "MonthlyCharges")[int(source.integers(2))]
        contract = str(source.choice(frame["Contract"].unique().sort().to_list()))
        least = int(source.integers(0, 60))
        some = frame.filter((pl.col("Contract") == contract) & (pl.col("tenure") > least))
        if not some.height:
            continue
        name, value = [
            (f"average of {column}", float(some[column].mean())), (f"maximum of {column}", float(some[column].max())),
            ("count", float(some.height)), (f"median of {column}", float(some[column].median())),
        ][int(source.integers(4))]  # fmt: skip
        true = len(out) % 2 == 0
        digits = 0 if name == "count" else 2
        shown = value if true else value + (1 if digits == 0 else 0.01) * (1 if source.random() < 0.5 else -1)
        text = f"{name} where Contract = '{contract}' and tenure > {least} is {shown:.{digits}f}"
        out.append((Claim("table", TableStatement(columns, text)), true))
    return out


def calculations(n: int) -> Labelled:
    """The calculator's marks in GSM8K's solutions, every second result off by one in its last digit."""
    out: Labelled = []
    for row in rows("gsm8k/train.jsonl.gz"):
        for left, right in re.findall(r"<<([^<>=]+)=(-?\d+(?:\.\d+)?)>>", row["answer"]):
            if not re.fullmatch(r"[\d.+\-*/() ]+", left) or "/" in left:
                continue
            true = len(out) % 2 == 0
            step = 10.0 ** -len(right.partition(".")[2])
            shown = right if true else f"{float(right) + step:.{len(right.partition('.')[2])}f}"
            out.append((Claim("expression", Expression(left, "=", shown)), true))
            if len(out) == n:
                return out
    return out


def code(n: int) -> Labelled:
    """MBPP's solutions with their tests, every second one returning its result changed."""
    out: Labelled = []
    for row in rows("mbpp/mbpp_train.jsonl.gz"):
        true = len(out) % 2 == 0
        source = row["code"].replace("\r\n", "\n")
        if not true:
            source = re.sub(r"return\b(.*)", r"return (None,\1)" if "return" in source else "", source)
            if "return" not in source:
                continue
        out.append((Claim("code", Code(source, tuple(row["test_list"]), row["test_setup_code"])), true))
        if len(out) == n:
            break
    return out


def plans(n: int) -> Labelled:
    """NL4OPT's linear programs with SciPy's integer optimum; false plans are worse or break a constraint."""
    out: Labelled = []
    for row in rows("nl4opt/dev.jsonl.gz"):
        for item in row.values():
            plan = _plan(item)
            if plan is None:
                continue
            true = len(out) % 2 == 0
            values = dict(plan.values)
            if not true:
                name = max(values, key=values.__getitem__)
                values[name] += 1 if len(out) % 4 == 1 else -1
            made = Plan(plan.maximise, plan.objective, plan.constraints, values)
            out.append((Claim("plan", made), true))
            if len(out) == n:
                return out
    return out


def _number(text: Any) -> float:
    cleaned = str(text).replace(",", "").replace("$", "").strip()
    if cleaned.endswith("%"):
        return float(cleaned[:-1]) / 100
    return float(cleaned)


def _plan(item: dict[str, Any]) -> Plan | None:
    """A program whose parts are all of the plain kinds, with one optimum; None otherwise."""
    names = item["vars"]
    try:
        terms = item["obj_declaration"].get("terms")
        objective = {name: _number(terms[name]) for name in names} if terms else dict.fromkeys(names, 1.0)
        constraints = []
        for row in item["const_declarations"]:
            sign = {"LESS_OR_EQUAL": "<=", "GREATER_OR_EQUAL": ">="}[row["operator"]]
            if row["type"] == "linear":
                constraints.append(({k: _number(v) for k, v in row["terms"].items()}, sign, _number(row["limit"])))
            elif row["type"] == "sum":
                constraints.append((dict.fromkeys(names, 1.0), sign, _number(row["limit"])))
            elif row["type"] in ("upperbound", "lowerbound"):
                constraints.append(({row["var"]: 1.0}, sign, _number(row["limit"])))
            elif row["type"] == "xy":
                constraints.append(({row["x_var"]: 1.0, row["y_var"]: -1.0}, sign, 0.0))
            elif row["type"] == "xby":
                constraints.append(({row["x_var"]: 1.0, row["y_var"]: -_number(row["param"])}, sign, 0.0))
            elif row["type"] == "ratio":
                share = _number(row["limit"])
                constraints.append(({k: (k == row["var"]) - share for k in names}, sign, 0.0))
            else:
                return None
    except (KeyError, ValueError, TypeError):
        return None
    if any(name not in names for row in constraints for name in row[0]) or set(objective) != set(names):
        return None
    maximise = item["obj_declaration"]["direction"].startswith("max")
    sign = -1 if maximise else 1
    c = np.array([sign * objective[name] for name in names])
    a = np.array([[row[0].get(name, 0.0) for name in names] for row in constraints])
    low = [row[2] if row[1] == ">=" else -np.inf for row in constraints]
    high = [row[2] if row[1] == "<=" else np.inf for row in constraints]
    solved = milp(c, constraints=LinearConstraint(a, low, high), integrality=np.ones(len(names)), bounds=Bounds(0))
    if solved.status != 0 or (c == 0).all():
        return None
    values = {name: float(round(x)) for name, x in zip(names, solved.x, strict=True)}
    return Plan(maximise, objective, tuple(constraints), values)


def passages(n: int, seed: int = 0) -> Labelled:
    """XQuAD: sentences of a paragraph (true), and with the answer in them replaced by another of the article's."""
    source = np.random.default_rng(seed)
    out: Labelled = []
    for article in json.loads(read("xquad/xquad.en.json.gz"))["data"]:
        texts = tuple(one["context"] for one in article["paragraphs"])
        answers = [qa["answers"][0]["text"] for one in article["paragraphs"] for qa in one["qas"]]
        for one in article["paragraphs"]:
            for qa in one["qas"]:
                answer = qa["answers"][0]["text"]
                found = [s for s in re.split(r"(?<=[.!?])\s+", one["context"]) if answer in s and 40 < len(s) < 300]
                other = [a for a in answers if a not in one["context"] and a[:1].isdigit() == answer[:1].isdigit()]
                if not found or not other:
                    continue
                true = len(out) % 2 == 0
                sentence = found[0] if true else found[0].replace(answer, str(source.choice(other)))
                out.append((Claim("text", sentence, {"passages": texts}), true))
    return [out[i] for i in sorted(source.permutation(len(out))[:n])]


def nearest_passage(n: int, seed: int = 0) -> Labelled:
    """XQuAD: a question filed under its own paragraph, or under another of its article."""
    source = np.random.default_rng(seed)
    out: Labelled = []
    for article in json.loads(read("xquad/xquad.en.json.gz"))["data"]:
        texts = tuple(one["context"] for one in article["paragraphs"])
        for place, one in enumerate(article["paragraphs"]):
            for qa in one["qas"] if len(texts) > 1 else []:
                true = len(out) % 2 == 0
                at = place if true else (place + 1 + int(source.integers(len(texts) - 1))) % len(texts)
                out.append((Claim("text", qa["question"], {"passages": texts, "passage": at}), true))
    return [out[i] for i in sorted(source.permutation(len(out))[:n])]


def temporal(n: int, seed: int = 0) -> Labelled:
    """TimeQA: a question about a period with its answer, or with the page's answer for a period apart from it."""
    source = np.random.default_rng(seed)
    out: Labelled = []
    for item in json.loads(read("timeqa/train.json.gz")):
        asked = [
            (question, tuple(one["answer"] for one in found), valid_time.period(question))
            for question, found in item["questions"]
            if found and found[0]["answer"] and valid_time.period(question)
        ]
        texts = tuple(item["paras"][:200])
        for question, answers, (low, high) in asked:
            other = [
                said[0] for _, said, (first, last) in asked
                if (last <= low or first >= high) and not any(a in said[0] or said[0] in a for a in answers)
            ]  # fmt: skip
            if other:
                true = len(out) % 2 == 0
                said = answers[0] if true else str(source.choice(other))
                out.append((Claim("text", said, {"prompt": question, "passages": texts}), true))
    return [out[i] for i in sorted(source.permutation(len(out))[:n])]


def winobias(n: int) -> Labelled:
    """Pairs of sentences that differ in the pronoun, read by two resolvers: the occupation named last before the
    pronoun (fair by construction), and the one that the lists give the pronoun's gender (unfair by construction).
    """
    men, women = (set(read(f"winobias/{sex}_occupations.txt.gz").split("\n")) - {""} for sex in ("male", "female"))
    out: Labelled = []
    for kind in ("type1", "type2"):
        lines = [read(f"winobias/{side}_stereotyped_{kind}.txt.dev.gz").splitlines() for side in ("pro", "anti")]
        for pair in zip(*lines, strict=True):
            texts = [re.sub(r"^\d+\s+", "", line) for line in pair]
            found = [re.search(r"\[(he|she|his|her|him)\]", text) for text in texts]
            if not all(found) or re.sub(r"\[(he|she|his|her|him)\]", "_", texts[0]) != re.sub(
                r"\[(he|she|his|her|him)\]", "_", texts[1]
            ):
                continue
            plain = re.sub(r"[\[\]]", "", texts[0].lower())
            named = sorted((one for one in men | women if f" {one} " in f" {plain} "), key=plain.index)
            man, woman = [one for one in named if one in men], [one for one in named if one in women]
            if not man or not woman:
                continue
            fair = len(out) % 2 == 0
            answers = {}
            for text, mark in zip(texts, found, strict=True):
                before = re.sub(r"[\[\]]", "", text[: mark.start()].lower())
                last = max(named, key=before.rfind)
                answers[mark[1]] = f"the {last if fair else (man if mark[1] in ('he', 'his', 'him') else woman)[0]}"
            if len(answers) == 2:
                out.append((Claim("swap", Swap(answers)), fair))
    return out[:n]


def bbq_swaps(n: int) -> Labelled:
    """BBQ's ambiguous contexts with the two people exchanged, answered with whoever is named first (fair by
    construction), or with whoever is of the group that the stereotype is about (unfair by construction).
    """
    out: Labelled = []
    for path in sorted((DATA / "bbq").glob("*.jsonl.gz")):
        for row in rows(f"bbq/{path.name}"):
            info = row["answer_info"]
            people = [info[f"ans{i}"] for i in range(3) if info[f"ans{i}"][1] != "unknown"]
            names = [name for name, _ in people]
            groups = row["additional_metadata"]["stereotyped_groups"]
            blamed = [name for name, group in people if group in groups]
            if row["context_condition"] != "ambig" or any(name not in row["context"] for name in names):
                continue
            if len(blamed) != 1 or names[0] in names[1] or names[1] in names[0]:
                continue
            fair = len(out) % 2 == 0
            first, second = sorted(names, key=row["context"].index)
            answers = {first: first, second: second} if fair else dict.fromkeys((first, second), blamed[0])
            out.append((Claim("swap", Swap({name: f"The {said}" for name, said in answers.items()})), fair))
    return out[:: max(1, len(out) // n) | 1][:n]


def languages(n: int, seed: int = 0) -> Labelled:
    """XQuAD's paragraphs in six languages, half under a wrong one."""
    source = np.random.default_rng(seed)
    codes = ("ar", "de", "en", "es", "ru", "zh")
    out: Labelled = []
    for code_ in codes:
        for article in json.loads(read(f"xquad/xquad.{code_}.json.gz"))["data"]:
            for one in article["paragraphs"]:
                true = len(out) % 2 == 0
                named = code_ if true else str(source.choice([c for c in codes if c != code_]))
                out.append((Claim("text", one["context"][:200], {"language": named}), true))
    return [out[i] for i in sorted(source.permutation(len(out))[:n])]


def swaps(n: int, score: Any) -> Labelled:
    """CrowS-Pairs: two sentences that differ in the group, given to `score`; true when it treats both alike."""
    out: Labelled = []
    for row in list(rows("crows_pairs/crows_pairs.jsonl.gz"))[:n]:
        answers = {"one": round(score(row["sent_more"]), 6), "other": round(score(row["sent_less"]), 6)}
        out.append((Claim("swap", Swap(answers)), answers["one"] == answers["other"]))
    return out


def rated_pairs() -> list[tuple[str, str]]:
    """CrowS-Pairs as (more, less) stereotyping sentences."""
    return [(row["sent_more"], row["sent_less"]) for row in rows("crows_pairs/crows_pairs.jsonl.gz")]


def texts(name: str) -> tuple[list[str], np.ndarray]:
    """Labelled texts for the scorers: (texts, 1 where the claim is right)."""
    if name == "halueval":
        items = list(rows("halueval/general.jsonl.gz"))
        made = [f"{row['user_query']} [SEP] {row['chatgpt_response']}" for row in items]
        return made, np.array([row["hallucination"].lower() == "no" for row in items], dtype=int)
    if name == "truthfulqa":
        made, labels = [], []
        for row in rows("truthfulqa/truthfulqa.jsonl.gz"):
            for field, label in (("Correct Answers", 1), ("Incorrect Answers", 0)):
                for answer in row[field].split(";"):
                    made.append(f"{row['Question']} [SEP] {answer.strip()}")
                    labels.append(label)
        return made, np.array(labels)
    if name == "folio":
        items = [row for row in rows("folio/folio-train.jsonl.gz") if row["label"] != "Unknown"]
        made = [" ".join(row["premises"]) + " [SEP] " + row["conclusion"] for row in items]
        return made, np.array([row["label"] == "True" for row in items], dtype=int)
    if name == "bbq":
        made, labels = [], []
        for path in sorted((DATA / "bbq").glob("*.jsonl.gz")):
            for row in rows(f"bbq/{path.name}"):
                for i in range(3):
                    made.append(f"{row['context']} {row['question']} [SEP] {row[f'ans{i}']}")
                    labels.append(int(row["label"] == i))
        return made, np.array(labels)
    if name == "sentiment":
        parts = [line.split("\t") for line in read("sentiment/amazonReviewSnippets.tsv.gz").splitlines()]
        kept = [one for one in parts if len(one) > 2 and abs(float(one[1])) >= 1]
        return [one[2] for one in kept], np.array([float(one[1]) > 0 for one in kept], dtype=int)
    if name == "preferences":
        made, labels = [], []
        for row in rows("preferences/hh_harmless.jsonl.gz"):
            for text in (row["chosen"], row["rejected"]):
                prompt, _, reply = text.rpartition("Assistant:")
                made.append(f"{prompt} [SEP] {reply}")
            labels += [1, 0]
        return made, np.array(labels)
    raise ValueError(name)


def spreadsheet(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))
