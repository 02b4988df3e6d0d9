"""Bytes to text when nobody says for sure which encoding it is: UTF-8 if it is valid, then the label, then a guess.

Labels lie, so a label is believed only when it decodes; Latin-1 labels mean windows-1252, as browsers read them.
"""

from __future__ import annotations

import codecs
import re

_META = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,5}=\s{0,5}["']?([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
_XML = re.compile(rb"""^\s{0,5}<\?xml[^>]{0,200}?encoding\s{0,5}=\s{0,5}["']([A-Za-z0-9_:.-]{2,40})["']""")
_LATIN = {"iso8859-1", "latin-1", "ascii", "us-ascii"}
_BOMS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
META_BYTES, GUESS_BYTES = 2048, 1 << 16


def decode(data: bytes, label: str = "") -> str:
    """The text of `data`; characters that no reading explains become U+FFFD."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return data.decode(name, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        nearly = len(data) > 64 and error.start > len(data) - 4
    if nearly:
        return data.decode("utf-8", "ignore")  # the last character was cut in half
    for name in (_known(label), _known(_declared(data)), _guess(data)):
        if name and name != "utf-8":
            try:
                return data.decode(name)
            except (UnicodeDecodeError, LookupError):
                continue
    valid = data.decode("utf-8", "replace")
    return valid if valid.count("�") * 50 < len(valid) else data.decode("cp1252", "replace")


def declared_charset(content_type: str) -> str:
    """The charset parameter of an HTTP Content-Type header, or ""."""
    _, found, rest = content_type.lower().partition("charset=")
    return rest.split(";")[0].strip(" \"'") if found else ""


def _declared(data: bytes) -> str:
    match = _XML.search(data[:META_BYTES]) or _META.search(data[:META_BYTES])
    return match.group(1).decode("ascii") if match else ""


def _known(label: str) -> str:
    """Python's name of an encoding, with Latin-1 read as windows-1252; "" when it is not one of text."""
    if not label:
        return ""
    try:
        info = codecs.lookup(label)
    except LookupError:
        return ""
    if not getattr(info, "_is_text_encoding", True):
        return ""
    return "cp1252" if info.name in _LATIN else info.name


def _guess(data: bytes) -> str:
    """What a detector says of the beginning; "" without one."""
    try:
        from resiliparse.parse.encoding import detect_encoding
    except ImportError:
        return "cp1252"
    return _known(str(detect_encoding(data[:GUESS_BYTES])))
