"""Programs as data: interned nodes, their text, rules and passes over them. Open `node.py` first."""

from .graph import Graph, inputs_for, rebuilt, substitute, topological, users_of
from .node import Const, Get, Input, Node, Number, Op, bare_node, const_value, constant, is_finite_number, results
from .passes import Observer, Pass, Pipeline, run
from .rewrite import Match, Pattern, Rewriter, Rule, call, const_hole, hole, rewrite
from .source import Source, attributed_to, inside_module, module_path, user_source
from .text import parse, show
from .verify import verify

__all__ = [
    "Const",
    "Get",
    "Graph",
    "Input",
    "Match",
    "Node",
    "Number",
    "Observer",
    "Op",
    "Pass",
    "Pattern",
    "Pipeline",
    "Rewriter",
    "Rule",
    "Source",
    "attributed_to",
    "bare_node",
    "call",
    "const_hole",
    "const_value",
    "constant",
    "hole",
    "inputs_for",
    "inside_module",
    "is_finite_number",
    "module_path",
    "parse",
    "rebuilt",
    "results",
    "rewrite",
    "run",
    "show",
    "substitute",
    "topological",
    "user_source",
    "users_of",
    "verify",
]
