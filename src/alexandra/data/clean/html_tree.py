"""A page as a small tree that can be measured, pruned and written as text; selectolax (lexbor) parses it.

Only what main-text extraction needs: tags, the class and id, text, and sums over each subtree (characters, characters
inside links, commas). Scripts, styles and form fields never get in.
"""

from __future__ import annotations

import re
from typing import Any

from alexandra.errors import missing_extra

_STRIPPED = (
    "script style noscript template svg iframe object embed head link input textarea select button canvas audio video "
    "map"
)
STRIPPED = _STRIPPED.split()
_BLOCKS = (
    "address article aside blockquote body center dd details dialog div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hgroup hr li main nav ol p pre section summary table tbody td tfoot th thead tr ul "
    "caption"
)
BLOCKS = frozenset(_BLOCKS.split())
# Elements that keep a div from being a paragraph itself.
DIVIDERS = frozenset(["blockquote", "dl", "div", "img", "ol", "p", "pre", "table", "ul"])
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
ATTRIBUTES = (
    "class", "id", "style", "hidden", "aria-hidden", "aria-modal", "role", "rel", "itemprop", "href", "summary"
)  # fmt: skip
COMMAS = (",", "，", "،", "、")
DEEPEST = 1000
GONE = "(gone)"
MAX_DEPTH = 150
_SPACES = re.compile(r"[ \t\r\n\f\u00a0]+")
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,30})")
# Elements without an end tag, or whose end is implied.
_ENDLESS = (
    "area base br col embed hr img input link meta param source track wbr p li td th tr dt dd option path circle rect "
    "use line polygon polyline ellipse stop tbody thead tfoot html head body"
)
_SHALLOW = frozenset(_ENDLESS.split())
_HIDDEN = re.compile(r"display\s{0,3}:\s{0,3}none|visibility\s{0,3}:\s{0,3}hidden", re.IGNORECASE)


class Node:
    """An element, or with tag "" a piece of text. After `measure`, `chars`, `links`, `commas` and
    `dividers` are sums over its subtree, which `drop` keeps right in its ancestors."""

    __slots__ = (
        "attributes", "chars", "children", "commas", "depth", "dividers", "links", "names", "parent", "score",
        "tag", "text"
    )  # fmt: skip

    def __init__(self, tag: str, parent: Node | None, text: str = "") -> None:
        self.tag = tag
        self.parent = parent
        self.text = text
        self.children: list[Node] = []
        self.attributes: dict[str, str] = {}
        self.names = ""
        self.score: float | None = None
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.chars = self.links = self.commas = self.dividers = 0

    def drop(self) -> None:
        """Take this node out of its parent, and its sums out of its ancestors'."""
        above = self.parent
        if above is None:
            return
        dividers = self.dividers + (self.tag in DIVIDERS)
        self.parent = None
        self.tag, self.children = GONE, []  # stays in its parent's list: taking it out would be quadratic
        while above is not None:
            above.chars -= self.chars
            above.links -= self.links
            above.commas -= self.commas
            above.dividers -= dividers
            above = above.parent

    @property
    def elements(self) -> list[Node]:
        return [child for child in self.children if child.tag and child.tag != GONE]

    def walk(self) -> list[Node]:
        """This node and everything below it, in document order."""
        out, stack = [], [self]
        while stack:
            node = stack.pop()
            out.append(node)
            if node.children:
                stack.extend(reversed(node.children))
        return out

    @property
    def link_density(self) -> float:
        return self.links / self.chars if self.chars else 0.0


def too_deep(page: str) -> bool:
    """Whether elements nest deeper than any page that people write; such bait makes HTML parsers quadratic."""
    if page.count("<") <= DEEPEST:
        return False
    depth = 0
    for closing, tag in _TAG.findall(page):
        if closing:
            depth = max(0, depth - 1)
        elif tag.lower() not in _SHALLOW:
            depth += 1
            if depth > DEEPEST:
                return True
    return False


def without_tags(page: str) -> str:
    """The text between tags, for pages that cannot be parsed in good time."""
    return re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"<[^<>]{0,10000}>", "\n", page)).strip()


def parse(page: str) -> tuple[Node, str]:
    """(body, title). Hidden elements are left out; nesting deeper than MAX_DEPTH is flattened."""
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError as error:
        raise missing_extra("extracting text from HTML", "data") from error
    tree = LexborHTMLParser(page)
    title = tree.css_first("title")
    words = title.text(deep=True) if title is not None else ""
    tree.strip_tags(STRIPPED)
    root = Node("body", None)
    if tree.body is not None:
        _copy(tree.body, root)
    return root, _SPACES.sub(" ", words or "").strip()


def _copy(source: Any, root: Node) -> None:
    """Copy the visible elements under `source`; the walk is in document order, so parents come first."""
    made: dict[int, Node | None] = {source.mem_id: root}
    for found in source.traverse(include_text=True):
        tag = found.tag
        identity = found.mem_id
        if identity == source.mem_id:
            _attributes(root, found)
            continue
        above = found.parent
        parent = made.get(above.mem_id) if above is not None else None
        if parent is None:
            continue
        if tag == "-text":
            text = found.text_content
            if text:
                parent.children.append(Node("", parent, text))
        elif tag[0] != "-" and tag[0] != "!":
            if parent.depth >= MAX_DEPTH:
                made[identity] = parent
                continue
            node = Node(tag, parent)
            _attributes(node, found)
            if not is_hidden(node):
                made[identity] = node
                parent.children.append(node)


def _attributes(node: Node, found: Any) -> None:
    attributes = found.attributes
    if attributes:
        node.attributes = {name: attributes[name] or "" for name in ATTRIBUTES if name in attributes}
        node.names = f"{attributes.get('class') or ''} {attributes.get('id') or ''}".strip()


def is_hidden(node: Node) -> bool:
    attributes = node.attributes
    if not attributes:
        return False
    if "hidden" in attributes or ("style" in attributes and _HIDDEN.search(attributes["style"])):
        return True
    if attributes.get("aria-hidden") == "true" and "fallback-image" not in node.names:
        return True
    return attributes.get("aria-modal") == "true" and attributes.get("role") == "dialog"


def measure(root: Node) -> int:
    """Fill the sums of every subtree; the number of nodes."""
    nodes = root.walk()
    for node in reversed(nodes):
        tag = node.tag
        if not tag:
            text = node.text
            if not text.isspace():
                node.chars = len(" ".join(text.split()))
                node.commas = sum(map(text.count, COMMAS))
        elif tag == "a":
            node.links = int(0.3 * node.chars) if node.attributes.get("href", "").startswith("#") else node.chars
        above = node.parent
        if above is not None and node is not root:
            above.chars += node.chars
            above.links += node.links
            above.commas += node.commas
            above.dividers += node.dividers + (tag in DIVIDERS)
    return len(nodes)


def inner_text(node: Node) -> str:
    """All text below, blanks made single."""
    return " ".join("".join(part.text for part in node.walk() if not part.tag).split())


def render(root: Node) -> str:
    """The text as a reader sees it: a line per block, a blank line around paragraphs, <pre> as it is written."""
    out: list[str] = []
    gap = 0  # how many line ends are due before the next text; adjacent blocks share theirs
    blank = True  # whether the text so far ends in white space
    stack: list[tuple[Node | str, bool]] = [(root, False)]
    while stack:
        node, pre = stack.pop()
        if isinstance(node, str):
            gap = max(gap, len(node))
        elif node.tag == "br":
            gap = min(2, gap + 1)
        elif node.tag:
            edge = _edge(node)
            if edge == "\t":
                out.append("" if gap or blank else "\t")
                blank = True
            elif edge:
                gap = max(gap, len(edge))
                stack.append((edge, pre))
            inside = pre or node.tag == "pre"
            stack.extend((child, inside) for child in reversed(node.children))
            if node.tag == "li" and node.chars:
                stack.append((Node("", None, "- "), True))
        else:
            text = node.text if pre else _SPACES.sub(" ", node.text)
            if (blank or gap) and not pre:
                text = text.lstrip()
            if text:
                out.append("\n" * gap if out else "")
                out.append(text)
                gap, blank = 0, text[-1] in " \n"
    return re.sub(r"[ \t]+\n", "\n", "".join(out)).replace("\x00", "").strip("\n ")


def _edge(node: Node) -> str:
    """What separates a block from its surroundings; "" for inline elements."""
    tag = node.tag
    if tag not in BLOCKS:
        return ""
    if tag in ("td", "th"):
        return "\t" if len(node.parent.children if node.parent else ()) > 1 else "\n"
    return "\n" if tag in ("li", "tr", "dt", "dd", "tbody", "thead", "tfoot", "div", "caption") else "\n\n"
