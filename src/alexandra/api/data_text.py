"""An inspection of a corpus as lines for a terminal."""

from __future__ import annotations

from alexandra.api.data_report import Inspection

BAR = 40


def inspection(seen: Inspection) -> list[str]:
    """Counts, losses, histograms, samples, quarantine."""
    lines = [seen.output, f"{seen.records:,} records in, {seen.documents:,} documents out"]
    lines += [
        f"  {count:>10,}  {reason}" for reason, count in sorted(seen.losses.items(), key=lambda row: -row[1]) if count
    ]
    corpus = seen.corpus
    if corpus:
        share = f"{100 * corpus['filled']:.2f} % of positions used"
        lines.append(f"{corpus['tokens']:,} tokens in {corpus['rows']:,} rows of {corpus['length']:,}; {share}")
        lines += [f"  {count:>12,}  {name}" for name, count in corpus["tokens_by_source"].items()]
    for name, rows in seen.histograms.items():
        most = max((count for _, _, count in rows), default=1)
        lines.append(name)
        lines += [f"  {low:>9,} -  {count:>9,}  {'#' * round(BAR * count / most)}" for low, _, count in rows]
    for sample in seen.samples:
        text = " ".join(sample["text"].split())[:200]
        lines.append(f"{sample['id']}: {text}")
    for broken in seen.quarantined:
        lines.append(f"quarantined: {broken['file']} {broken['position']} ({broken['step']}): {broken['reason']}")
    return lines
