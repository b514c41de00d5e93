"""The source tree keeps its house rules: docstrings, names, imports, one reader of the environment."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sestet"
MODULES = sorted(SOURCE.rglob("*.py"))
FOLDERS = sorted({module.parent for module in MODULES})

# They would hold whatever nobody found a place for.
NAMELESS = {"utils", "util", "helpers", "helper", "common", "base", "misc", "shared"}


def name(module: Path) -> str:
    return module.relative_to(SOURCE.parent).as_posix()


def tree(module: Path) -> ast.Module:
    return ast.parse(module.read_text("utf-8"))


each_module = pytest.mark.parametrize("module", MODULES, ids=name)


def test_there_is_a_tree_to_look_at() -> None:
    assert len(MODULES) > 40


@each_module
def test_every_module_says_what_it_is_in_one_to_five_lines(module: Path) -> None:
    docstring = ast.get_docstring(tree(module))

    assert docstring
    assert 1 <= len([line for line in docstring.splitlines() if line.strip()]) <= 5


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_every_folder_is_a_package(folder: Path) -> None:
    assert (folder / "__init__.py").is_file()


@each_module
def test_every_module_is_named_for_what_it_owns(module: Path) -> None:
    assert not NAMELESS & set(module.relative_to(SOURCE).with_suffix("").parts)


@each_module
def test_nothing_is_imported_inside_a_function(module: Path) -> None:
    inside = [
        node.lineno
        for function in ast.walk(tree(module))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    # An engine may need a library that only those who use it have installed; migrations are needed once in the life of
    # a schema, and their library takes longer to import than a start without it.
    assert "engines" in module.parts or module.name == "database.py" or inside == []


def reads_environment(module: Path) -> bool:
    """Whether a module reads its process's environment, under whatever name it imports it."""
    for node in ast.walk(tree(module)):
        match node:
            case ast.Attribute(value=ast.Name("os"), attr="environ" | "environb" | "getenv" | "getenvb"):
                return True
            case ast.ImportFrom(module="os", names=names) if {"environ", "getenv"} & {one.name for one in names}:
                return True
    return False


def test_only_the_configuration_reads_the_environment_and_only_the_engines_start_passes_it_on() -> None:
    assert [
        "sestet/config.py",
        "sestet/engines/llamacpp/process.py",
    ] == [name(module) for module in MODULES if reads_environment(module)]


def test_the_engine_passes_on_none_of_our_own_settings() -> None:
    process = (SOURCE / "engines" / "llamacpp" / "process.py").read_text("utf-8")

    assert 1 == process.count("os.environ")
    assert 'if not name.startswith("SESTET_")' in process


@pytest.mark.parametrize("folder", ["contract", "turn"])
def test_the_pure_layers_have_no_asynchronous_function(folder: str) -> None:
    assert [] == [
        f"{name(module)}:{node.lineno}"
        for module in sorted((SOURCE / folder).glob("*.py"))
        for node in ast.walk(tree(module))
        if isinstance(node, ast.AsyncFunctionDef | ast.Await)
    ]
