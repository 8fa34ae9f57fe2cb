"""The rules of the house that no tool checks: exports, docstrings, file names and the reach of the layer contract."""

import ast
import importlib
import re
import runpy
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "treadle"
MODULES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def exported(tree: ast.Module) -> list[str]:
    """Return the names in `__all__`, or nothing when the module has none."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return list(ast.literal_eval(value))
            case _:
                pass
    return []


def public(tree: ast.Module) -> set[str]:
    """Return the public names that a package binds itself or takes from treadle."""
    names: set[str] = set()
    for statement in tree.body:
        match statement:
            case ast.ImportFrom(module=module, names=aliases, level=level) if level or (module or "").startswith(
                "treadle"
            ):
                names |= {alias.asname or alias.name for alias in aliases}
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case _:
                pass
    return {name for name in names if not name.startswith("_")}


def layers() -> list[set[str]]:
    """Return the lines of the layer contract, top first, as sets of package names."""
    (contract,) = (c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    return [set(re.findall(r"\w+", line)) for line in contract["layers"]]


@pytest.mark.parametrize("folder", PACKAGES, ids=name_of)
def test_a_package_exports_what_it_names(folder: Path) -> None:
    tree = ast.parse((folder / "__init__.py").read_text())
    listed = exported(tree)
    assert len(listed) == len(set(listed)), "__all__ names something twice"
    wanted = public(tree) | ({"__version__"} & set(listed))
    assert set(listed) == wanted, f"only in __all__: {set(listed) - wanted}; missing there: {wanted - set(listed)}"
    module = importlib.import_module(name_of(folder / "__init__.py"))
    assert [name for name in listed if not hasattr(module, name)] == []


@pytest.mark.parametrize("folder", [folder for folder in PACKAGES if folder != PACKAGE], ids=name_of)
def test_a_package_says_which_file_to_open_first(folder: Path) -> None:
    named = re.findall(
        r"Open `(\w+\.py)` first", ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    )
    assert named, "its docstring does not say `Open FILE.py first`"
    assert (folder / named[0]).exists()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text()))
    assert text, "no module docstring"
    assert text.split("\n\n")[0].rstrip().endswith((".", ":")), f"not a sentence: {text.splitlines()[0]!r}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_file_has_a_name_of_its_own(path: Path) -> None:
    nameless = {"utils", "util", "misc", "helpers", "common"}
    assert path.stem in {"__init__", "__main__"} or not path.stem.startswith("_")
    assert path.stem not in nameless, f"{path.stem} says nothing: put the helper beside its only user, or name the idea"
    # `nn.utils` is PyTorch's name, which its users import from; what is in it has names of its own.
    folders = path.relative_to(PACKAGE).as_posix().removeprefix("nn/utils/").split("/")[:-1]
    assert not any(part.startswith("_") or part in nameless for part in folders)


def test_the_layer_contract_covers_every_package() -> None:
    lines = layers()
    listed = [name for line in lines for name in line]
    assert len(listed) == len(set(listed)), "a package stands on two lines"
    missing = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")} - set(listed)
    assert missing == set(), f"packages without a layer: {missing}"


def test_modules_beside_the_packages_are_none() -> None:
    # A module directly under treadle/ would stand outside the layers.
    assert {path.name for path in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py"}


def test_the_readme_shows_the_layers_of_the_contract() -> None:
    rows = re.findall(r"^\| `(\w+)`((?: · `\w+`)*) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    shown = [{first, *re.findall(r"\w+", rest)} for first, rest in rows]
    present = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    assert [row & present for row in shown if row & present] == [line & present for line in layers() if line & present]


def test_the_readme_shows_the_files_as_they_are() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "readme.py"))
    assert (ROOT / "README.md").read_text() == script["readme"](), "README.md is out of date: run `make fix`"
