"""The main text of a web page: the part that a reader came for, without navigation, advertisements and comments.

The scoring of arc90's Readability (2009), which browsers' reader modes descend from: paragraphs give points to their
ancestors, links take them away, the best container and its kin are the article, and what inside it looks like
furniture goes. When too little is left, the page is read again with fewer rules, and the longest reading wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from alexandra.data.clean.html_tree import HEADINGS, Node, inner_text, measure, parse, render, too_deep, without_tags

ENOUGH_CHARS = 500
PARAGRAPH_CHARS = 25
MOST_NODES = 30_000  # no further attempt on a page of more elements
MOST_LOOKED_AT = 500_000  # elements that one page's cleaning may visit: nested bait stays linear
_UNLIKELY = re.compile(
    r"-ad-|ai2html|banner|breadcrumbs|combx|comment|community|cover-wrap|disqus|extra|footer|gdpr|header|legends|menu|related"
    r"|remark|replies|rss|shoutbox|sidebar|skyscraper|social|sponsor|supplemental|ad-break|agegate|pagination|pager|popup"
    r"|yom-remote",
    re.IGNORECASE,
)
_MAYBE = re.compile(r"and|article|body|column|content|main|mathjax|shadow", re.IGNORECASE)
_POSITIVE = re.compile(
    r"article|body|content|entry|hentry|h-entry|main|page|pagination|post|text|blog|story", re.IGNORECASE
)
_NEGATIVE = re.compile(
    r"-ad-|hidden|(?:^| )hid(?: |$)|banner|combx|comment|com-|contact|footer|gdpr|masthead|media|meta|outbrain|promo"
    r"|related|scroll|share|shoutbox|sidebar|skyscraper|sponsor|shopping|tags|widget",
    re.IGNORECASE,
)
_BYLINE = re.compile(r"byline|author|dateline|writtenby|p-author", re.IGNORECASE)
_SHARE = re.compile(r"(?:\b|_)(?:share|sharedaddy)(?:\b|_)", re.IGNORECASE)
_ADVERT = re.compile(
    r"(?:ad(?:vertising|vertisement)?|pub(?:licité)?|werb(?:ung)?|广告|реклама|anuncio)", re.IGNORECASE
)
_SENTENCE = re.compile(r"\.(?: |$)")
_ROLES = frozenset(("menu", "menubar", "complementary", "navigation", "alert", "alertdialog", "dialog"))
_SCORED = frozenset(("section", "h2", "h3", "h4", "h5", "h6", "p", "td", "pre"))
_BASE = {"div": 5, "pre": 3, "td": 3, "blockquote": 3, "form": -3, "th": -5}
_BASE.update(dict.fromkeys(("address", "ol", "ul", "dl", "dd", "dt", "li"), -3))
_BASE.update(dict.fromkeys(HEADINGS, -5))
_INLINE = (
    "abbr b bdo br cite code data dfn em i img kbd label mark math meter output progress q ruby samp small span "
    "strong sub sup time var wbr font tt u s"
)
_PHRASING = frozenset(_INLINE.split())


@dataclass(frozen=True)
class Rules:
    """Which of the rules are on; they are given up one after the other."""

    unlikely: bool = True
    weights: bool = True
    conditional: bool = True


ATTEMPTS = (Rules(), Rules(unlikely=False), Rules(unlikely=False, weights=False), Rules(False, False, False))


def main_text(page: str) -> str:
    """The article of `page` as text; the whole visible text when nothing looks like an article."""
    if too_deep(page):
        return without_tags(page)
    best, read = "", 0
    for rules in ATTEMPTS:
        root, title = parse(page)
        read += measure(root)
        if not root.chars:
            break
        text = _attempt(root, title, rules)
        if len(text) >= ENOUGH_CHARS:
            return text
        best = max(best, text, key=len)
        if read > MOST_NODES:
            break
    return best


def whole_text(page: str) -> str:
    """All visible text of `page`."""
    if too_deep(page):
        return without_tags(page)
    return render(parse(page)[0])


def _attempt(root: Node, title: str, rules: Rules) -> str:
    paragraphs = _prune(root, title, rules)
    candidates = _score(paragraphs, rules)
    article = _article(root, candidates, rules)
    _clean(article, rules)
    return render(article)


def class_weight(node: Node, rules: Rules) -> int:
    """+25 or -25 for what the class, and the id, sound like."""
    if not rules.weights or not node.names:
        return 0
    weight = 0
    for name in (node.attributes.get("class"), node.attributes.get("id")):
        if name:
            weight -= 25 if _NEGATIVE.search(name) else 0
            weight += 25 if _POSITIVE.search(name) else 0
    return weight


def _prune(root: Node, title: str, rules: Rules) -> list[Node]:
    """Drop what is unlikely to be content; returns the elements that give points."""
    scored: list[Node] = []
    stack = list(reversed(root.elements))
    byline = heading = False
    while stack:
        node = stack.pop()
        if not byline and _is_byline(node):
            byline = True
            node.drop()
            continue
        if not heading and node.tag in ("h1", "h2") and title and _similar(title, inner_text(node)) > 0.75:
            heading = True
            node.drop()
            continue
        if rules.unlikely and _unlikely(node):
            node.drop()
            continue
        if node.tag in ("div", "section", "header", *HEADINGS) and not node.chars and not _has(node, "img"):
            node.drop()
            continue
        if node.tag in _SCORED:
            scored.append(node)
        if node.tag == "div":
            _wrap_phrases(node)
            inside = node.elements
            lone = len(inside) == 1 and inside[0].tag == "p" and not _loose_text(node)
            if lone and node.chars and node.links / node.chars < 0.25:
                scored.append(inside[0])
                stack.extend(reversed(inside[0].elements))
                continue
            if not node.dividers:
                node.tag = "p"
                scored.append(node)
        stack.extend(reversed(node.elements))
    return scored


def _unlikely(node: Node) -> bool:
    if node.attributes.get("role") in _ROLES:
        return True
    if not node.names or node.tag in ("body", "a") or not _UNLIKELY.search(node.names) or _MAYBE.search(node.names):
        return False
    above = node.parent
    while above is not None:
        if above.tag in ("table", "code"):
            return False
        above = above.parent
    return True


def _is_byline(node: Node) -> bool:
    attributes = node.attributes
    named = attributes.get("rel") == "author" or "author" in attributes.get("itemprop", "")
    return (named or bool(node.names and _BYLINE.search(node.names))) and 0 < node.chars < 100


def _similar(title: str, text: str) -> float:
    """1 less the share of the text's characters that are in words which the title lacks."""
    a, b = re.findall(r"\w+", title.lower()), re.findall(r"\w+", text.lower())
    if not a or not b:
        return 0.0
    known = set(a)
    strange = " ".join(word for word in b if word not in known)
    return 1.0 - len(strange) / len(" ".join(b))


def _has(node: Node, tag: str) -> bool:
    return any(child.tag == tag for child in node.walk())


def _loose_text(node: Node) -> bool:
    return any(not child.tag and child.text.strip() for child in node.children)


def _is_phrasing(node: Node) -> bool:
    if not node.tag or node.tag in _PHRASING:
        return True
    return node.tag in ("a", "del", "ins") and all(_is_phrasing(child) for child in node.children)


def _wrap_phrases(node: Node) -> None:
    """Runs of inline content between the blocks of a div become paragraphs."""
    if all(_is_phrasing(child) for child in node.children):
        return
    children: list[Node] = []
    run: Node | None = None
    for child in node.children:
        if _is_phrasing(child):
            if run is None and (child.tag or child.text.strip()) and child.tag != "br":
                run = Node("p", node)
                children.append(run)
            if run is None:
                children.append(child)
            else:
                child.parent = run
                run.children.append(child)
                run.chars += child.chars
                run.links += child.links
                run.commas += child.commas
        else:
            run = None
            children.append(child)
    node.children = children


def _score(paragraphs: list[Node], rules: Rules) -> list[Node]:
    """Points for the ancestors of every paragraph; returns those that got some, best first."""
    candidates: list[Node] = []
    for paragraph in paragraphs:
        if paragraph.parent is None or paragraph.chars < PARAGRAPH_CHARS:
            continue
        points = 2.0 + paragraph.commas + min(paragraph.chars // 100, 3)
        above: Node | None = paragraph.parent
        level = 0
        while above is not None and level < 5:
            if above.score is None:
                above.score = _BASE.get(above.tag, 0) + class_weight(above, rules)
                candidates.append(above)
            above.score += points / (1 if level == 0 else 2 if level == 1 else 3 * level)
            above, level = above.parent, level + 1
    for node in candidates:
        assert node.score is not None
        node.score *= 1.0 - node.link_density
    return sorted(candidates, key=lambda node: -(node.score or 0.0))


def _article(root: Node, candidates: list[Node], rules: Rules) -> Node:
    """The best container with the siblings that belong to it, as a new root."""
    article = Node("div", None)
    if not candidates or candidates[0] is root:
        _adopt(article, list(root.children))
        return article
    top = _lifted(root, candidates)
    if top.score is None:
        top.score = _BASE.get(top.tag, 0) + class_weight(top, rules)
    best = max(top.score, 0.0)
    threshold = max(10.0, 0.2 * best)
    names = top.attributes.get("class", "")
    taken: list[Node] = []
    for sibling in top.parent.elements if top.parent is not None else [top]:
        bonus = 0.2 * best if names and sibling.attributes.get("class", "") == names else 0.0
        take = sibling is top or (sibling.score is not None and sibling.score + bonus >= threshold)
        if not take and sibling.tag == "p":
            density = sibling.link_density
            short = 0 < sibling.chars < 80 and density == 0 and bool(_SENTENCE.search(inner_text(sibling)))
            take = (sibling.chars > 80 and density < 0.25) or short
        if take:
            taken.append(sibling)
    _adopt(article, taken)
    return article


def _adopt(article: Node, children: list[Node]) -> None:
    for child in children:
        child.parent = article
        article.children.append(child)
        article.chars += child.chars
        article.links += child.links
        article.commas += child.commas


def _lifted(root: Node, candidates: list[Node]) -> Node:
    """The top candidate, or an ancestor that holds several good ones, scores better, or only wraps it."""
    top = candidates[0]
    assert top.score is not None
    rivals = [node for node in candidates[1:5] if top.score > 0 and (node.score or 0.0) / top.score >= 0.75]
    lines = [_above(node) for node in rivals]
    if len(lines) >= 3:
        for above in _above(top):
            if above is not root and sum(above in line for line in lines) >= 3:
                top = above
                break
    parent, last = top.parent, top.score or 0.0
    floor = last / 3
    while parent is not None and parent is not root:
        if parent.score is not None:
            if parent.score < floor:
                break
            if parent.score > last:
                top = parent
                break
            last = parent.score
        parent = parent.parent
    while top.parent is not None and top.parent is not root and len(top.parent.elements) == 1:
        top = top.parent
    return top


def _above(node: Node) -> list[Node]:
    out = []
    while node.parent is not None:
        node = node.parent
        out.append(node)
    return out


def _clean(article: Node, rules: Rules) -> None:
    """Take the furniture out of the article."""
    _conditionally(article, ("form", "fieldset"), rules)
    for node in article.walk()[1:]:
        gone = node.tag in ("footer", "aside")
        share = node.names and node.chars < ENOUGH_CHARS and _SHARE.search(node.names)
        heading = node.tag in ("h1", "h2") and class_weight(node, rules) < 0
        if gone or (share and node.depth > 0) or heading:
            node.drop()
    for tags in (("table",), ("ul", "ol"), ("div", "section")):
        _conditionally(article, tags, rules)


def _conditionally(article: Node, tags: tuple[str, ...], rules: Rules) -> None:
    if not rules.conditional:
        return
    looked = 0
    for node in reversed(article.walk()[1:]):
        if node.tag in tags and node.parent is not None and looked < MOST_LOOKED_AT:
            inside = node.walk()[1:]
            looked += len(inside)
            if _is_furniture(node, inside, rules):
                node.drop()


def _is_data_table(node: Node) -> bool:
    if node.attributes.get("role") == "presentation":
        return False
    inside = node.walk()[1:]
    tags = [child.tag for child in inside]
    if node.attributes.get("summary") or any(
        tag in tags for tag in ("caption", "col", "colgroup", "tfoot", "thead", "th")
    ):
        return True
    if "table" in tags:
        return False
    rows = tags.count("tr")
    columns = tags.count("td") // max(rows, 1)
    return rows >= 10 or columns > 4 or rows * columns > 10


def _is_furniture(node: Node, inside: list[Node], rules: Rules) -> bool:
    tag = node.tag
    if tag == "table" and _is_data_table(node):
        return False
    for above in _above(node):
        if above.tag in ("code", "pre") or (above.tag == "table" and _is_data_table(above)):
            return False
    lists = tag in ("ul", "ol")
    if not lists and node.chars:
        lists = sum(child.chars for child in inside if child.tag in ("ul", "ol")) / node.chars > 0.9
    weight = class_weight(node, rules)
    if weight < 0:
        return True
    if node.commas >= 10:
        return False
    return _looks_furnished(node, inside, lists, weight)


def _looks_furnished(node: Node, inside: list[Node], lists: bool, weight: int) -> bool:
    counts: dict[str, int] = {}
    headings = textish = 0
    for child in inside:
        counts[child.tag] = counts.get(child.tag, 0) + 1
        if child.tag in HEADINGS:
            headings += child.chars
        if child.tag in ("span", "li", "td", "blockquote", "dl", "div", "ol", "p", "pre", "table", "ul"):
            textish += child.chars
    paragraphs, images, items = counts.get("p", 0), counts.get("img", 0), counts.get("li", 0) - 100
    density, chars = node.link_density, node.chars
    figure = any(above.tag == "figure" for above in _above(node))
    words = inner_text(node) if chars < 40 else ""
    remove = (
        (bool(words) and _ADVERT.fullmatch(words) is not None)
        or (not figure and images > 1 and paragraphs / images < 0.5)
        or (not lists and items > paragraphs)
        or (
            not lists
            and not figure
            and headings < 0.9 * chars
            and chars < 25
            and images in (0, *range(3, 99))
            and density > 0
        )
        or (not lists and weight < 25 and density > 0.2)
        or (weight >= 25 and density > 0.5)
        or (images == 0 and textish == 0 and not any(not child.tag and child.text.strip() for child in node.children))
    )
    if remove and lists and images and images == counts.get("li", 0):
        return False
    return remove
