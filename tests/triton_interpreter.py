"""A process that runs printed masks in Triton's interpreter, or compiles them for a GPU that is not there.

Triton decides when it is imported whether it interprets, so tests, which may import it for themselves, ask a process of
its own. Questions and answers are pickles over its standard streams.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import numpy as np

KERNEL = '''
import triton
import triton.language as tl
{imports}

{mask}

@triton.jit
def kernel(out, n, n_q, h, {parameters}ROWS: tl.constexpr, COLUMNS: tl.constexpr, TURNED: tl.constexpr):
    """Stores M of the last n_q queries, (n_q, n); a tile of keys by queries if TURNED."""
    row, column = tl.program_id(0) * ROWS, tl.program_id(1) * COLUMNS
    if TURNED:
        q = n - n_q + row + tl.arange(0, ROWS)[None, :]
        k = column + tl.arange(0, COLUMNS)[:, None]
    else:
        q = n - n_q + row + tl.arange(0, ROWS)[:, None]
        k = column + tl.arange(0, COLUMNS)[None, :]
    m = {name}(q, k, n, h, {arguments})
    tl.store(out + (q - (n - n_q)) * n + k, m.to(tl.int64), mask=(q < n) & (k < n))
'''
ROWS, COLUMNS = 32, 64


def module_text(source: Any) -> str:
    """A kernel around the function of a MaskSource."""
    imports = f"from patternc.backends.triton_words import {', '.join(source.words)}" if source.words else ""
    names = [a.name for a in source.arguments]
    parameters = "".join(f"{name}, " for name in names)
    return KERNEL.format(
        imports=imports, mask=source.text, parameters=parameters, name=source.name, arguments=", ".join(names)
    )


def kinds_of(source: Any, tensors: dict[str, str]) -> dict[str, str]:
    """Triton's types of the arguments."""
    return {a.name: f"*{tensors[a.name]}" if a.kind == "tensor" else "i32" for a in source.arguments}


class Triton:
    """The process. Without a GPU interpreting, or compiling, which needs none."""

    def __init__(self, *, interpret: bool) -> None:
        environment = {**os.environ, "TRITON_INTERPRET": "1" if interpret else "0"}
        command = [sys.executable, __file__]
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def mask(
        self, source: Any, tensors: dict[str, np.ndarray], numbers: dict[str, int], n: int, n_q: int, h: int = 0,
        turned: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """M (n_q, n) of a MaskSource; `tensors` are those of one batch row."""
        values = [tensors[a.name] if a.kind == "tensor" else numbers[a.name] for a in source.arguments]
        return self._ask("run", module_text(source), values, n, n_q, h, turned)

    def compiled(self, source: Any, tensors: dict[str, str]) -> str:
        """The code for compute capability 9.0; `tensors` are the types of elements by the argument's name."""
        return self._ask("compile", module_text(source), kinds_of(source, tensors))

    def typed(self, source: Any, tensors: dict[str, str]) -> str:
        """The same before it is optimised, which takes most of the time: what is wrong in the text is found by then."""
        return self._ask("type", module_text(source), kinds_of(source, tensors))

    def _ask(self, *question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(question, self._process.stdin)
        self._process.stdin.flush()
        try:
            good, answer = pickle.load(self._process.stdout)
        except EOFError:
            raise AssertionError(f"the process ended with {self._process.wait()} on {question[1:]}") from None
        assert good, answer
        return answer

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


# ------------------------------------------------------------------ inside the process


def load(text: str, folder: Path) -> Any:
    """Triton reads the text of functions from files."""
    path = folder / f"kernel_{abs(hash(text))}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module.kernel


def mend() -> None:
    """Comparisons of scalars keep the type of their operands in Triton 3.6 and 3.7's interpreter; they are int1."""
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def typed(compare: Any) -> Any:
        return lambda self, a, b: TensorHandle(compare(self, a, b).data, tl.int1)

    for name in [name for name in dir(InterpreterBuilder) if name.startswith(("create_fcmp", "create_icmp"))]:
        setattr(InterpreterBuilder, name, typed(getattr(InterpreterBuilder, name)))


def run(text: str, values: list[Any], n: int, n_q: int, h: int, turned: bool, *, folder: Path) -> np.ndarray:
    import torch

    out = torch.full((n_q, n), -1, dtype=torch.int64)
    values = [torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in values]
    grid = (-(-n_q // ROWS), -(-n // COLUMNS))
    load(text, folder)[grid](out, n, n_q, h, *values, ROWS=ROWS, COLUMNS=COLUMNS, TURNED=turned)
    return out.numpy()


def compile_text(text: str, kinds: dict[str, str], *, folder: Path) -> str:
    import triton

    return triton.compile(*source_and_target(text, kinds, folder)).asm["ttgir"]


def type_text(text: str, kinds: dict[str, str], *, folder: Path) -> str:
    from triton._C.libtriton import ir
    from triton.compiler.compiler import make_backend

    source, target = source_and_target(text, kinds, folder)
    backend, context = make_backend(target), ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    options = backend.parse_options({})
    words = backend.get_codegen_implementation(options), backend.get_module_map()
    return str(source.make_ir(target, options, *words, context))


def source_and_target(text: str, kinds: dict[str, str], folder: Path) -> tuple[Any, Any]:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = {"ROWS": 128, "COLUMNS": 64, "TURNED": False}
    signature = {"out": "*i64", "n": "i32", "n_q": "i32", "h": "i32", **kinds}
    typed = {**signature, **dict.fromkeys(constants, "constexpr")}
    return ASTSource(load(text, folder), typed, constants), GPUTarget("cuda", 90, 32)


WORK = {"run": run, "compile": compile_text, "type": type_text}


def serve() -> None:
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    if os.environ["TRITON_INTERPRET"] == "1":
        mend()
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                work, *question = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                answer = True, WORK[work](*question, folder=Path(folder))
            except Exception:
                answer = False, question[0] + traceback.format_exc()
            pickle.dump(answer, answers)
            answers.flush()


if __name__ == "__main__":
    serve()
