"""The house style as a test. The lists of exceptions may only shrink."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
BANNED_FILES = ("utils", "util", "helpers", "helper", "common", "base", "manager", "misc")
BANNED_TEXT = (
    ("TO" + "DO", "an issue or nothing"),
    ("FIX" + "ME", "an issue or nothing"),
    ("unittest" + ".mock", "pure cores need no mocks"),
    ("NotImplemented" + "Error", "no stubs"),
    ("leader" + "_", "the word is coordinator"),
)
BANNED_NAMES = re.compile(r"(^|_)(manager|utils?|master|slave|leader)(_|$)", re.IGNORECASE)


def sources() -> list[Path]:
    return sorted(
        path for folder in ("rain", "sim", "tests") for path in (ROOT / folder).rglob("*.py")
    )


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_idea(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)

    assert text.count("\n") <= FILE_LINES_MAX
    assert path.stem not in BANNED_FILES
    too_long = [
        f"{function.name} ({function.end_lineno - function.lineno + 1})"
        for function in functions(tree)
        if function.end_lineno is not None
        and function.end_lineno - function.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not too_long
    for word, why in BANNED_TEXT:
        assert word not in text, f"{word}: {why}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_words_of_the_glossary(path: Path) -> None:
    tree = ast.parse(path.read_text())
    named = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert not [name for name in named if BANNED_NAMES.search(name)]


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if path.name != "__init__.py" and "tests" not in path.parts],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a module opens with what it is"
