"""Reads a page of the HTML report as a browser would, and says what is not as it should be."""

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Self

VOID = frozenset({"meta", "link", "wbr", "br", "rect", "hr", "img", "input"})


class Node:
    """An element: its attributes, and what is in it."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Self | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Node | str] = []

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag: str = "", kind: str = "") -> Iterator["Node"]:
        """The elements below of a tag, or of a class."""
        for child in self.children:
            if isinstance(child, Node):
                if (not tag or child.tag == tag) and (not kind or kind in child.classes):
                    yield child
                yield from child.all(tag, kind)

    def one(self, tag: str = "", kind: str = "") -> "Node":
        (found,) = self.all(tag, kind)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {}, None)
        self._here = self.root

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        node = Node(tag, {name: value or "" for name, value in attributes}, self._here)
        self._here.children.append(node)
        if tag not in VOID:
            self._here = node

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._here.children.append(Node(tag, {name: value or "" for name, value in attributes}, self._here))

    def handle_endtag(self, tag: str) -> None:
        assert self._here.tag == tag, f"</{tag}> ends <{self._here.tag}>"
        assert self._here.parent is not None
        self._here = self._here.parent

    def handle_data(self, data: str) -> None:
        self._here.children.append(data)


def read(page: bytes) -> Node:
    """The page, every element of which is closed, whose links lead somewhere in it, and which loads nothing."""
    reader = _Reader()
    reader.feed(page.decode())
    reader.close()
    assert reader._here is reader.root, f"<{reader._here.tag}> is not closed"
    root = reader.root
    names = [node.attributes["id"] for node in root.all() if "id" in node.attributes]
    assert len(names) == len(set(names))
    for node in root.all():
        assert node.attributes.get("src") is None, node.tag
        assert not any(name.startswith("on") or name == "style" for name in node.attributes), node.attributes
        target = node.attributes.get("href")
        assert target is None or target == "data:," or (target[0] == "#" and target[1:] in names), target
        labelled = node.attributes.get("aria-labelledby")
        assert labelled is None or labelled in names
        assert node.tag != "button" or node.text.strip()
    return root
