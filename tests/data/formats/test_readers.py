"""Each format's records, and what a reader says of records that it cannot read."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest

from alexandra.data.flow import Broken, Record, Skipped
from alexandra.data.formats import FORMATS, ReadOptions, files_of, read_file
from alexandra.data.formats.charset import decode
from alexandra.data.formats.languages import LANGUAGES, code_language
from alexandra.data.formats.repositories import is_generated, licence_of
from alexandra.errors import DataError
from alexandra.records import Document

OPTIONS = ReadOptions("src")


def read(path: Path, kind: str = "", options: ReadOptions = OPTIONS) -> list[Record]:
    return list(read_file(path, options, kind))


def texts(records: list[Record]) -> list[str]:
    return [record.text for record in records if isinstance(record, Document)]


def test_json_lines_keep_what_is_sound_and_name_what_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "one", "url": "u"}\n{"text": 5}\n[1]\n{"text": "cut\n\n{"other": 1}\n'
        b'{"text": "caf\xe9"}\n{"text": "last"}'
    )
    records = read(path)
    assert texts(records) == ["one", "café", "last"]
    assert [(r.position, r.reason.partition(":")[0]) for r in records if isinstance(r, Broken)] == [
        ("line 2", "field 'text' is not text"),
        ("line 3", "not a JSON object"),
        ("line 4", "not JSON"),
        ("line 6", "no field 'text'"),
    ]
    first = records[0]
    assert isinstance(first, Document) and first.id == "src/a.jsonl#1" and first.metadata == {"url": "u"}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_packed_lines_are_read_up_to_the_damage(tmp_path: Path, suffix: str) -> None:
    body = b"".join(json.dumps({"text": f"text number {i} {i * 7919}"}).encode() + b"\n" for i in range(20000))
    if suffix == ".gz":
        packed = gzip.compress(body)
    else:
        packed = pytest.importorskip("zstandard").ZstdCompressor().compress(body)
    whole, cut = tmp_path / f"w.jsonl{suffix}", tmp_path / f"c.jsonl{suffix}"
    whole.write_bytes(packed)
    cut.write_bytes(packed[: len(packed) // 2])
    assert len(texts(read(whole))) == 20000
    records = read(cut)
    assert isinstance(records[-1], Broken) and "damaged stream" in records[-1].reason
    assert len(texts(records)) > 1000


def test_a_bomb_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexandra.data.formats.streams.FREE_BYTES", 1 << 20)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "' + b"a" * (1 << 26), 9))
    assert [type(one) for one in read(path)] == [Broken]
    assert "bomb" in read(path)[0].reason  # type: ignore[union-attr]


def test_csv_names_rows_of_another_width(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"one, with comma",x\ntwo\n"three\nlines",z\n')
    records = read(path)
    assert texts(records) == ["one, with comma", "three\nlines"]
    assert [r.reason for r in records if isinstance(r, Broken)] == ["wrong width: 1 fields, the header has 2"]


def test_plain_text_whole_by_line_and_by_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n\nthree\n")
    assert texts(read(path)) == ["one\ntwo\n\nthree\n"]
    assert texts(read(path, options=ReadOptions("s", split="line"))) == ["one", "two", "three"]
    assert texts(read(path, options=ReadOptions("s", split="blank"))) == ["one\ntwo", "three\n"]


def test_chats_and_preferences_become_one_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        {"prompt": "hi", "chosen": "hello", "rejected": "no"},
        {"chosen": "a whole transcript", "rejected": "no"},
        {"messages": [{"role": "user"}]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    records = read(path)
    assert texts(records) == ["<|user|>\nhi\n<|assistant|>\nhello"] * 3 + ["a whole transcript"]
    assert isinstance(records[-1], Broken)
    assert all(record.kind == "chat" for record in records if isinstance(record, Document))


def test_parquet_and_arrow_rows(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = arrow.table({"text": ["one", None, "three"], "n": [1, 2, 3]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    with (
        arrow.OSFile(str(tmp_path / "data-00000.arrow"), "wb") as sink,
        arrow.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    for name in ("a.parquet", "data-00000.arrow"):
        records = read(tmp_path / name)
        assert texts(records) == ["one", "three"]
        assert [r.position for r in records if isinstance(r, Broken)] == ["row 2"]
    (tmp_path / "b.parquet").write_bytes(b"PAR1 nothing")
    assert "not Parquet" in read(tmp_path / "b.parquet")[0].reason  # type: ignore[union-attr]


def warc_record(kind: str, body: bytes, http: bytes = b"") -> bytes:
    payload = http + body
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://a.b/\r\nContent-Length: {len(payload)}\r\n"
    if http:
        head += "Content-Type: application/http; msgtype=response\r\n"
    return head.encode() + b"\r\n" + payload + b"\r\n\r\n"


OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"


@pytest.mark.parametrize("packed", [True, False])
def test_a_damaged_warc_record_costs_only_itself(tmp_path: Path, packed: bool) -> None:
    pytest.importorskip("fastwarc")
    records = [warc_record("response", f"<p>page {i}</p>".encode() * 50, OK) for i in range(5)]
    records.insert(1, warc_record("request", b"GET / HTTP/1.1\r\n\r\n"))
    records.append(warc_record("response", b"gone", OK.replace(b"200 OK", b"404 Not Found")))
    parts = [gzip.compress(one) if packed else one for one in records]
    parts[3] = (
        parts[3][:20] + b"\xff" * 12 + parts[3][32:]
        if packed
        else parts[3].replace(b"Content-Length", b"Kontent-Length")
    )
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(b"".join(parts))
    found = read(path)
    pages = [text[:13] for text in texts(found)]
    assert pages == ["<p>page 0</p>", "<p>page 1</p>", "<p>page 3</p>", "<p>page 4</p>"]
    broken = [one for one in found if isinstance(one, Broken)]
    assert len(broken) == 1 and broken[0].position == f"byte {sum(map(len, parts[:3]))}"
    assert sorted(one.reason for one in found if isinstance(one, Skipped)) == ["request", "status 404"]


def test_epub_chapters_come_in_reading_order(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("META-INF/container.xml", '<rootfile full-path="O/c.opf"/>')
        book.writestr(
            "O/c.opf",
            '<item id="b" href="two.xhtml"/><item id="a" href="one.xhtml"/>'
            '<spine><itemref idref="a"/><itemref idref="b"/></spine>',
        )
        book.writestr("O/one.xhtml", "<html><body><p>first</p></body></html>")
        book.writestr("O/two.xhtml", "<html><body><p>second</p></body></html>")
    (record,) = read(path)
    assert isinstance(record, Document) and record.text.index("first") < record.text.index("second")
    path.write_bytes(path.read_bytes()[:200])
    assert "not a readable EPUB" in read(path)[0].reason  # type: ignore[union-attr]


def test_latex_loses_its_commands_and_keeps_mathematics(tmp_path: Path) -> None:
    path = tmp_path / "a.tex"
    path.write_text(
        "\\documentclass{article}\n\\begin{document}\n\\section{On \\emph{rings}}\nLet $x^2$ be % a comment\n"
        "\\textbf{bold \\textit{and} slanted}, see \\cite{a}; 5\\% of it.\n\\end{document} junk"
    )
    assert texts(read(path)) == ["On rings\n\nLet $x^2$ be\nbold and slanted, see ; 5% of it."]


def test_pdf_text_is_read_and_damage_named(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter()
    writer.add_blank_page(72, 72)
    with (tmp_path / "blank.pdf").open("wb") as file:
        writer.write(file)
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    assert "no text" in read(tmp_path / "blank.pdf")[0].reason  # type: ignore[union-attr]
    assert "not a readable PDF" in read(tmp_path / "broken.pdf")[0].reason  # type: ignore[union-attr]
    (tmp_path / "hello.pdf").write_bytes(one_page_pdf(b"BT /F1 12 Tf 10 50 Td (Hello from a page) Tj ET"))
    assert texts(read(tmp_path / "hello.pdf")) == ["Hello from a page"]


def one_page_pdf(content: bytes) -> bytes:
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>\nstream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % len(body)
    return body + b"xref\n0 6\n0000000000 65535 f \n" + table + end


def test_a_repository_gives_code_with_language_and_licence(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("Permission is hereby granted, free of charge, to any person obtaining a copy")
    (tmp_path / "run").write_text("#!/usr/bin/env python3\nprint(1)\n")
    (tmp_path / "a_pb2.py").write_text("x = 1\n")
    (tmp_path / "lib.rs").write_text("// SPDX-License-Identifier: Apache-2.0\nfn main() {}\n")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/x.js").write_text("var a;\n")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\0\0")
    records = read(tmp_path, "repository")
    found = {
        r.metadata["path"]: (r.metadata["language"], r.metadata["licence"]) for r in records if isinstance(r, Document)
    }
    assert found == {"run": ("python", "MIT"), "lib.rs": ("rust", "Apache-2.0")}
    assert sorted(r.reason for r in records if isinstance(r, Skipped)) == [
        "binary file",
        "generated file",
        "not one of the 18 languages",
    ]


def test_eighteen_languages_are_told_by_extension_and_shebang() -> None:
    assert len(LANGUAGES) == 18
    for language in LANGUAGES:
        for extension in language.extensions:
            assert code_language(f"a{extension}", "") is language
        for shebang in language.shebangs:
            assert code_language("tool", f"#!/usr/bin/env {shebang}\n") is language
    assert code_language("tool", "just words") is None


def test_functions_are_found_in_all_languages() -> None:
    pytest.importorskip("tree_sitter_language_pack")
    from alexandra.data.formats.repositories import functions_and_comments

    samples = {
        "python": "# c\ndef f():\n    return 1\n",
        "javascript": "// c\nfunction f() { return 1 }\n",
        "go": "package a\n// c\nfunc f() int { return 1 }\n",
        "rust": "// c\nfn f() -> i32 { 1 }\n",
        "java": "class A { // c\n int f() { return 1; } }\n",
        "c": "/* c */ int f(void) { return 1; }\n",
        "shell": "# c\nf() { echo 1; }\n",
    }
    for language in LANGUAGES:
        if language.name in samples:
            found = functions_and_comments(samples[language.name], language)
            assert len(found["functions"]) == 1 and len(found["comments"]) == 1, language.name


def test_licences_and_generated_files() -> None:
    assert licence_of("Apache License\n   Version 2.0, January 2004") == "Apache-2.0"
    assert licence_of("all rights reserved") == ""
    assert is_generated("a.py", "# Code generated by protoc. DO NOT EDIT.\nx = 1")
    assert is_generated("a.js", "var a=1;" * 2000) and not is_generated("a.py", "x = 1\n")


@pytest.mark.parametrize(
    ("text", "encoding", "label"),
    [
        ("Grüße aus Köln", "utf-8", "iso-8859-1"),
        ("Grüße aus Köln", "latin-1", "iso-8859-1"),
        ("“quoted”", "cp1252", "iso-8859-1"),
        ("Привет, мир, как дела", "cp1251", "windows-1251"),
        ("日本語のテキスト", "shift_jis", "shift_jis"),
    ],
)
def test_bytes_are_decoded_although_labels_lie(text: str, encoding: str, label: str) -> None:
    assert decode(text.encode(encoding), label) == text


def test_real_bytes_in_five_encodings_are_read(real_data: Path) -> None:
    pytest.importorskip("resiliparse")
    folder = real_data / "languages/raw_bytes"
    for line in (folder / "truth.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        data = (folder / row["file"]).read_bytes()
        truth = data.decode(row["encodings"][0], "ignore")
        found = decode(data)
        same = sum(a == b for a, b in zip(found, truth, strict=False)) / max(len(found), len(truth))
        assert same > 0.99, (row, same)


def test_files_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("b.jsonl", "a.jsonl", "state.json", "notes.xyz"):
        (tmp_path / "set" / name).write_text("{}")
    assert [path.name for path in files_of("set", tmp_path)] == ["a.jsonl", "b.jsonl"]
    assert [path.name for path in files_of("set/a*", tmp_path)] == ["a.jsonl"]
    with pytest.raises(DataError, match="no files at 'none'"):
        files_of("none", tmp_path)
    with pytest.raises(DataError, match="unknown format 'jsnol'.*\n.*Did you mean 'jsonl'"):
        files_of("set", tmp_path, "jsnol")
    with pytest.raises(DataError, match="cannot tell the format of 'notes.xyz'"):
        read(tmp_path / "set/notes.xyz")


def test_every_format_quarantines_an_empty_and_a_garbage_file(tmp_path: Path) -> None:
    for name in FORMATS:
        for number, data in enumerate((b"", b"\x00\xff\xfe garbage \x1f\x8b" * 40)):
            folder = tmp_path / f"{name}{number}"
            folder.mkdir()
            path = folder / "file.py" if name in ("code", "repository") else folder / "file"
            path.write_bytes(data)
            read(folder if name == "repository" else path, name)  # never raises
