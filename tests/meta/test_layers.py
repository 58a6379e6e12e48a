"""Data flows one way: a file imports only files that stand before it in the house.

`ORDER` is the only place where the order is written down. A new file takes its place in it; a file
that would have to import a later one is in the wrong place.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.meta.repository import PACKAGES, ROOT, imports, module_name, parse, python_files

pytestmark = pytest.mark.tiny

ORDER = {
    "janus_lite": """
        errors config logs torch_internals stances
        record record.kinds record.iterators record.source record.scalars record.effects
        record.trace record.marks
        record.contracts record.torch_table record.instrument record.audit record.stack record.heap
        record.sizes record.placement record.tape record.session record.text record.attributes
        record.outputs record.regions record.host record.containers record.draws record.training
        record.subcalls record.syntax record.formatting
        record.leaves record.folds record.builtin_functions record.classes record.c_functions
        record.calls record.matching record.hooks record.recorder
        program program.assumptions program.effects program.memory program.in_place
        program.linear_calls program.lowering program.views program.regions
        program.alike program.states program.cursors program.merged_plans program.merge
        program.wellformed program.generalize
        runtime runtime.fingerprint runtime.ambient runtime.guards runtime.checks
        runtime.heap_check runtime.rebuild runtime.commit runtime.undo runtime.subcalls
        runtime.transposes runtime.expressions runtime.straight runtime.blocks runtime.emit
        runtime.backends runtime.cache runtime.together runtime.roots runtime.descent
        runtime.policy runtime.profit runtime.verify
        report imperative function api
    """,
    "nimble_lite": """
        errors config torch_internals
        tasks tasks.graph tasks.alias tasks.checks tasks.edges tasks.owners tasks.regions
        tasks.origins tasks.surroundings tasks.refusals tasks.values tasks.tracing tasks.cost
        plan plan.meg plan.matching plan.streams plan.simulate plan.schedule plan.arena plan.races
        plan.planner
        measure
        backends backends.protocol backends.straight backends.recorder backends.serial
        backends.threads backends.cuda
        inputs dict_tags module_state replay report api dynamo
    """,
}

# Looked up when first used: not installed everywhere, or too slow to load with `import janus_lite`.
OPTIONAL = {
    "cuda", "jinja2", "matplotlib", "pynvml", "rich", "sklearn", "timm", "torch._dynamo",
    "torch._inductor", "torch_tensorrt", "torchvision", "transformers", "triton",
}  # fmt: skip

FILES = python_files(*PACKAGES)


def ranks(package: str) -> dict[str, int]:
    """Module -> position. The package itself, which only gathers public names, comes last."""
    names = [f"{package}.{name}" for name in ORDER[package].split()] + [package]
    return {name: position for position, name in enumerate(names)}


def place(module: str, table: dict[str, int]) -> str:
    """The module itself or, for a file of a sub-package listed as one entry, that sub-package."""
    while module not in table:
        module = module.rpartition(".")[0]
    return module


def is_listed(module: str, table: dict[str, int]) -> bool:
    """Whether ORDER says where the module stands; a wing with listed files lists all of them."""
    entry = place(module, table)
    has_listed_files = any(name.startswith(f"{entry}.") for name in table)
    return entry == module or not has_listed_files


def imported_module(target: str) -> str:
    """`a.b.name` -> `a.b` unless `a.b.name` is itself a module of the repository."""
    path = ROOT.joinpath(*target.split("."))
    is_module = path.with_suffix(".py").exists() or (path / "__init__.py").exists()
    return target if is_module else target.rpartition(".")[0] or target


def is_optional(target: str) -> bool:
    return any(target == name or target.startswith(f"{name}.") for name in OPTIONAL)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_imports_only_what_comes_before_it(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    table = ranks(package)
    module = module_name(path)
    assert is_listed(module, table), f"{module} has no place in ORDER: add it where it belongs"

    own = place(module, table)
    wrong = []
    for item in imports(parse(path)):
        target = imported_module(item.target)
        if target.split(".")[0] != package:
            continue
        other = place(target, table)
        # Files of one entry may use each other; the test for cycles holds them.
        if table[other] > table[own]:
            wrong.append(f"line {item.line}: {item.target}")
    assert not wrong, f"{module} imports what comes after it"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_the_packages_do_not_import_each_other(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    foreign = set(PACKAGES) - {own} | {"benchmarks", "tests"}

    assert not [i for i in imports(parse(path)) if i.target.split(".")[0] in foreign]


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_stand_at_the_top_of_the_file(path: Path) -> None:
    nested = [i for i in imports(parse(path)) if i.is_nested and not is_optional(i.target)]

    assert not nested, "an import inside a function hides a cycle, unless the library is optional"


def test_there_is_no_import_cycle() -> None:
    edges = {
        module_name(path): {
            imported_module(item.target)
            for item in imports(parse(path))
            if imported_module(item.target) != module_name(path)
        }
        for path in FILES
    }

    # Take away, again and again, what imports nothing that is left or is imported by nothing left.
    left = set(edges)
    while free := {
        module
        for module in left
        if not edges[module] & left or all(module not in edges[other] for other in left)
    }:
        left -= free
    assert not left, "these modules import each other in a circle"


def test_the_order_names_only_files_that_exist() -> None:
    modules = {module_name(path) for path in FILES}
    gone = [
        name
        for package in PACKAGES
        for name in ranks(package)
        if any(module.split(".")[0] == package for module in modules) and name not in modules
    ]

    assert not gone, "ORDER names files that are not there"
