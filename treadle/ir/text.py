"""The text form of graphs. What is printed parses back to the same nodes: `parse(show(g)) == g`."""

from __future__ import annotations

import ast
import re
from typing import Any

from treadle.core import BY_SHORT, DType, Type, VerifyError

from .graph import SHOW, Graph
from .node import Node, Op


def show(graph: Graph, *, sources: bool = False) -> str:
    """Return the text of a graph; graphs inside ops are printed before it and named `@0`, `@1`, ...

    Args:
        graph: what to print.
        sources: append each node's source line as a comment.
    """
    printer = _Printer(sources)
    printer.add(graph, "main")
    return "\n".join(printer.blocks)


class _Printer:
    def __init__(self, sources: bool) -> None:
        self.sources = sources
        self.blocks: list[str] = []
        self.names: dict[Graph, str] = {}

    def value(self, value: Any) -> str:
        if isinstance(value, Graph):
            if value not in self.names:
                name = f"@{len(self.names)}"
                self.names[value] = name
                self.add(value, name)
            return self.names[value]
        if issubclass(type(value), tuple):
            items = [self.value(v) for v in value]
            return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
        return repr(value)

    def add(self, graph: Graph, name: str) -> None:
        number: dict[Node, str] = {node: f"%{i}" for i, node in enumerate(graph.inputs)}
        params = ", ".join(f"%{i}: {node.type!r}" for i, node in enumerate(graph.inputs))
        lines = [f"graph {name}({params}) {{"]
        for node in graph.nodes():
            if node in number:
                continue
            number[node] = f"%{len(number)}"
            attrs = ", ".join(f"{k}={self.value(v)}" for k, v in node.op.params().items())
            args = ", ".join(number[a] for a in node.args)
            types = ", ".join(map(repr, node.types))
            comment = f"  # {node.source}" if self.sources and node.source else ""
            fields = f"{{{attrs}}}" if attrs else ""
            lines.append(f"  {number[node]} = {node.op.name}({args}){fields} : {types}{comment}")
        lines.append(f"  return {', '.join(number[n] for n in graph.outputs)}")
        lines.append("}")
        self.blocks.append("\n".join(lines))


SHOW[0] = show

_HEAD = re.compile(r"^graph (@\d+|main)\((.*)\) \{$")
_LINE = re.compile(r"^(%\d+) = ([a-z_0-9]+)\(([^)]*)\)(?:\{(.*)\})? : (.*?)(?:  #.*)?$")


def parse(text: str) -> Graph:
    """Return the graph of a text; VerifyError names the line that does not parse."""
    graphs: dict[str, Graph] = {}
    numbered: dict[str, Node] = {}
    inputs: list[Node] = []
    name = ""
    for count, raw in enumerate(text.strip().splitlines(), 1):
        line = raw.strip()
        if not line or line == "}" or line.startswith("#"):
            continue
        try:
            if head := _HEAD.match(line):
                name, numbered, inputs = head[1], {}, []
                for i, item in enumerate(filter(None, _split(head[2]))):
                    inputs.append(Op.registry["input"](i, _value(item.split(": ")[1], graphs))())
                    numbered[f"%{i}"] = inputs[-1]
            elif line.startswith("return"):
                outputs = [numbered[n.strip()] for n in line[len("return ") :].split(",") if n.strip()]
                graphs[name] = Graph(tuple(inputs), tuple(outputs))
            elif match := _LINE.match(line):
                params = _params(match[4] or "", graphs)
                args = [numbered[a.strip()] for a in match[3].split(",") if a.strip()]
                node = Op.registry[match[2]](**params)(*args)
                if ", ".join(map(repr, node.types)) != match[5]:
                    raise VerifyError(f"its type is {node.types}, not {match[5]}")
                numbered[match[1]] = node
            else:
                raise VerifyError("it is neither a head, an assignment nor a return")
        except (KeyError, SyntaxError, TypeError, ValueError) as error:
            raise VerifyError(f"parse: line {count} `{line}` is not a graph line: {error}.") from error
    if "main" not in graphs:
        raise VerifyError("parse: the text has no `graph main(...) {`. Print a graph to see the form.")
    return graphs["main"]


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth, start = list[str](), 0, 0
    for i, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def _params(text: str, graphs: dict[str, Graph]) -> dict[str, Any]:
    pairs = [part.split("=", 1) for part in _split(text) if part]
    return {key.strip(): _value(value, graphs) for key, value in pairs}


def _value(text: str, graphs: dict[str, Graph]) -> Any:
    plain = re.sub(r"@(\d+)", r"__graph_\1", text.strip()).replace("[]", "[()]")
    return _literal(ast.parse(plain, mode="eval").body, graphs)


def _literal(tree: ast.expr, graphs: dict[str, Graph]) -> Any:
    match tree:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=items):
            return tuple(_literal(item, graphs) for item in items)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_literal(operand, graphs)
        case ast.Name(id="inf"):
            return float("inf")
        case ast.Name(id="nan"):
            return float("nan")
        case ast.Name(id=name) if name in BY_SHORT:
            return BY_SHORT[name]
        case ast.Name(id=name) if name.startswith("__graph_"):
            return graphs["@" + name.removeprefix("__graph_")]
        case ast.Subscript(value=ast.Name(id=name), slice=index) if name in BY_SHORT:
            return _type(BY_SHORT[name], index)
        case ast.Call(func=ast.Name(id="slice"), args=args):
            return slice(*[_literal(a, graphs) for a in args])
        case _:
            raise SyntaxError(f"cannot read `{ast.unparse(tree)}`")


def _type(dtype: DType, index: ast.expr) -> Type:
    sizes = index.elts if isinstance(index, ast.Tuple) else [index]
    return Type(dtype, tuple(int(ast.literal_eval(s)) for s in sizes))
