"""Nothing in the package can train: no optimiser, no backward pass, and torch in one file of the engine."""

import ast
from pathlib import Path

import pytest

import fluxctx

PACKAGE = Path(fluxctx.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
TRAINING_NAMES = {
    "backward",
    "enable_grad",
    "set_grad_enabled",
    "autograd",
    "optim",
    "zero_grad",
    "GradScaler",
    "requires_grad",
    "Trainer",
}
HEAVY = {"torch", "diffusers", "transformers"}


def names(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr, node
        elif isinstance(node, ast.Name):
            yield node.id, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield from ((part, node) for part in alias.name.split("."))
            yield from ((part, node) for part in (getattr(node, "module", "") or "").split("."))


def imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_the_search_finds_training_where_there_is_some():
    code = "import torch.optim\nloss.backward()\nwith torch.enable_grad(): p.requires_grad = True"
    assert {name for name, _ in names(ast.parse(code))} >= {
        "optim",
        "backward",
        "enable_grad",
        "requires_grad",
    }


def test_no_source_file_names_an_optimiser_or_a_backward_pass():
    found = []
    for path in SOURCES:
        for name, node in names(ast.parse(path.read_bytes())):
            reads = name == "requires_grad" and isinstance(getattr(node, "ctx", None), ast.Load)
            if name in TRAINING_NAMES and not reads:
                found.append(f"{path.relative_to(PACKAGE)}: {name}")
    assert found == []


def test_gradients_are_only_ever_switched_off():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "requires_grad_":
                assert [getattr(argument, "value", None) for argument in node.args] == [False], path


def test_only_the_workers_pipelines_import_torch():
    importers = {
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        if imported(ast.parse(path.read_bytes())) & HEAVY
    }
    assert importers == {"engine/pipelines.py"}


@pytest.mark.parametrize(
    "word", ["trust_remote_code", "torch.load", "pickle.load", "weights_only", "custom_pipeline="]
)
def test_nothing_loads_code_or_pickles(word):
    for path in SOURCES:
        code = ast.unparse(ast.parse(path.read_bytes()))
        body = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith(('"', "'")))
        assert word not in body, path
