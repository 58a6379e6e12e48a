"""Where an operation comes from: module path, file and line of the user's program."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

from nimble_lite.tasks.graph import Origin
from nimble_lite.tasks.owners import module_names
from nimble_lite.tasks.regions import cond, switch, while_loop
from nimble_lite.torch_internals import HIGHER_ORDER

_TORCH_ROOT = str(Path(torch.__file__).parent)
_OWN_ROOT = str(Path(__file__).parent.parent)
_REGIONS: dict[str, Callable[..., Any]] = {
    "cond": cond,
    "switch": switch,
    "while_loop": while_loop,
}
_STACK_LINE = re.compile(r'File "(.+?)", line (\d+)')


class Origins:
    """Finds the user's line on the stack, or in the node of a graph that is running.

    Args:
        fn: the callable that is recorded, for the names of its modules.

    Attributes:
        node: of a `GraphModule`, while it runs.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.node: Node | None = None
        self._modules = module_names(fn)

    def here(self) -> Origin:
        """Return the innermost line that is neither torch's nor ours."""
        if self.node is not None:
            return _node_origin(self.node)
        module, file, line = "", "", 0
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not (module and file):
            name = frame.f_code.co_filename
            if not module:
                module = self._modules.get(id(frame.f_locals.get("self")), "")
            if not file and not name.startswith((_TORCH_ROOT, _OWN_ROOT)):
                file, line = name, frame.f_lineno
            frame = frame.f_back
        return Origin(module=module, file=file or "<unknown>", line=line)


class NodeTracker(Interpreter):
    """Runs a `GraphModule`, notes which node is running, and reads torch's regions as ours."""

    def __init__(self, module: GraphModule, origins: Origins) -> None:
        super().__init__(module)
        self._origins = origins

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Bind the arguments to the placeholders and run."""
        placeholders = [str(n.target) for n in self.graph.nodes if n.op == "placeholder"]
        return self.run(*args, *(kwargs[name] for name in placeholders[len(args) :] if kwargs))

    def run_node(self, n: Node) -> Any:
        """Run one node."""
        self._origins.node = n
        return super().run_node(n)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function, or the region that a higher-order operator stands for."""
        region = _REGIONS.get(str(target)) if isinstance(target, HIGHER_ORDER) else None
        if region is not None and not kwargs:
            return region(*args)
        return super().call_function(target, args, kwargs)


def _node_origin(node: Node) -> Origin:
    lines = _STACK_LINE.findall(node.meta.get("stack_trace") or "")
    file, line = lines[-1] if lines else (f"<graph node {node.name}>", 0)
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    module = str(stack[-1][0]) if stack else ""
    return Origin(module=module, file=file, line=int(line))
