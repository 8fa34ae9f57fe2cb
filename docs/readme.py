"""Writes the parts of README.md that are read off the code: each layer's lines, each file's first sentence.

`make fix` runs it; a test fails when the README is out of date.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def first_sentence(path: Path) -> str:
    """Return the first sentence of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return re.split(r"\.(?:\s|$)", " ".join(text.split("\n\n")[0].split()), maxsplit=1)[0]


def layers(text: str) -> list[str]:
    """Return the package names of the layer contract, top first."""
    block = text.split("layers = [", 1)[1].split("]", 1)[0]
    return re.findall(r"\w+", block)


def tree() -> str:
    """Return the tree of the package, top layer first."""
    lines = [f"treadle/ - {first_sentence(ROOT / 'treadle' / '__init__.py')}"]
    for name in layers((ROOT / "pyproject.toml").read_text()):
        folder = ROOT / "treadle" / name
        if not (folder / "__init__.py").exists():
            continue
        lines.append(f"  {name}/ - {first_sentence(folder / '__init__.py')}")
        files = (path for path in sorted(folder.rglob("*.py")) if path.name != "__init__.py")
        lines += [f"    {path.relative_to(folder)} - {first_sentence(path)}" for path in files]
    return "\n".join(lines)


def num_lines(name: str) -> int:
    """Return the lines of a package's Python files."""
    return sum(len(path.read_text().splitlines()) for path in (ROOT / "treadle" / name).rglob("*.py"))


def counted(text: str) -> str:
    """Return the text with the lines column of the layer table filled, in hundreds: few edits change it."""

    def row(found: re.Match[str]) -> str:
        counts = [f"{round(num_lines(name), -2):,}" for name in re.findall(r"`(\w+)`", found[1])]
        return f"| {found[1]} | {found[2]} | {' · '.join(counts)} |"

    return re.sub(r"^\| (`\w+`(?: · `\w+`)*) \| ([^|]*) \|[^|\n]*\|?$", row, text, flags=re.MULTILINE)


def filled(text: str, mark: str, body: str) -> str:
    """Return the text with what stands between `<!-- mark -->` and `<!-- /mark -->` replaced."""
    pattern = re.compile(rf"(<!-- {mark} -->\n).*?(<!-- /{mark} -->)", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"README.md: no `<!-- {mark} -->` ... `<!-- /{mark} -->` to fill.")
    return pattern.sub(lambda found: f"{found[1]}{body}\n{found[2]}", text)


def readme() -> str:
    """Return README.md as it should be."""
    return filled(counted(README.read_text()), "tree", f"```text\n{tree()}\n```")


if __name__ == "__main__":
    README.write_text(readme())
