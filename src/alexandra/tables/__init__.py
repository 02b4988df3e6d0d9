"""Typed tables in and out: CSV, TSV, Parquet, frames, records; types inferred, rows hashed by content.

column.py one typed column; infer.py what a column is; csvfile.py and bytes_in.py files; convert.py Python objects;
keys.py content hashes; table.py the Table.
"""

from alexandra.tables.column import KINDS, Column
from alexandra.tables.csvfile import MAX_COLUMNS, CsvOptions
from alexandra.tables.table import Table, missing_column, row_keys

__all__ = ["KINDS", "MAX_COLUMNS", "Column", "CsvOptions", "Table", "missing_column", "row_keys"]
