"""Kernels started by addresses: each argument in its place, tensors of a call in those of an earlier one, and memory
that launches share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

import patternc
from patternc.backends import triton_backend, triton_direct, triton_launch
from patternc.backends.triton_adapter import prepare
from patternc.backends.triton_direct import starter
from patternc.backends.triton_launch import Box, Launch, Recipe, Scratch

CPU = torch.device("cpu")


class Kernel:
    """Stands for a function of Triton's JIT, and for what it returns when it has started a kernel."""

    arg_names = ("out_ptr", "table", "n", "BLOCK", "k_box", "scale")

    def __init__(self) -> None:
        self.first, self.again = [], []

    def __getitem__(self, grid):
        def start(**arguments):
            self.first.append((grid, arguments))
            return self

        return start

    def starter(self, programs, arguments):
        def start(arguments, stream):
            self.again.append((programs, arguments, stream))

        given = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments]
        boxes = {i: triton_direct._moved(a) for i, a in enumerate(given) if hasattr(a, "block_shape")}
        return triton_direct.Starter(start, given, range(len(given)), boxes)


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(triton_launch, "starter", Kernel.starter)
    monkeypatch.setattr(Recipe, "_stream", lambda self: (7, False))
    return Kernel()


def launch(kernel, table):
    bound = {"table": table, "n": 5, "BLOCK": 16, "num_warps": 4}
    given = {"out_ptr": "out", "scale": "scale"}
    return Launch(kernel, 3, bound, given, {"k_box": Box("k", [2, 16], [16, 1], [2, 16])})


def test_arguments_are_in_order_and_those_of_the_call(kernel):
    table, k, other_k = torch.zeros(4), torch.zeros(2, 16), torch.ones(2, 16)
    out, other_out = torch.zeros(8), torch.zeros(8)
    recipe = Recipe([launch(kernel, table)], Scratch(), CPU, kept=True)
    recipe.run({"out": out, "k": k}, {"scale": 0.5})
    recipe.run({"out": other_out, "k": other_k}, {"scale": 0.25})
    recipe.run({"out": out, "k": k}, {"scale": 0.5})
    ((grid, first),) = kernel.first
    assert grid == (3,)
    assert first["out_ptr"] is out
    assert first["k_box"].base is k
    assert first["num_warps"] == 4
    for (programs, arguments, stream), tensors, scale in zip(
        kernel.again, ((other_out, other_k), (out, k)), (0.25, 0.5), strict=True
    ):
        pointer, places, n, block, box, given = arguments
        assert (programs, stream) == (3, 7)
        assert (pointer, places, n, block, given) == (tensors[0].data_ptr(), table.data_ptr(), 5, 16, scale)
        assert box.base.data_ptr() == tensors[1].data_ptr()
        assert (box.shape, box.strides, box.block_shape) == ([2, 16], [16, 1], [2, 16])
    assert kernel.again[0][1][4] is not kernel.again[1][1][4]  # two threads may start it at once


def test_what_is_not_kept_goes_through_the_jit_each_time(kernel):
    recipe = Recipe([launch(kernel, torch.zeros(4))], Scratch(), CPU, kept=False)
    for _ in range(3):
        recipe.run({"out": torch.zeros(8), "k": torch.zeros(2, 16)}, {"scale": 0.5})
    assert (len(kernel.first), len(kernel.again)) == (3, 0)


def test_tensors_at_odd_places_go_through_the_jit(kernel):
    recipe = Recipe([launch(kernel, torch.zeros(4))], Scratch(), CPU, kept=True)
    even, odd = {"out": torch.zeros(8), "k": torch.zeros(2, 16)}, {"out": torch.zeros(9)[1:], "k": torch.zeros(2, 16)}
    for tensors in (odd, even, odd, even):
        recipe.run(tensors, {"scale": 0.5})
    assert (len(kernel.first), len(kernel.again)) == (3, 1)
    assert kernel.again[0][1][0] == even["out"].data_ptr()


def test_a_kernel_without_programs_is_compiled_and_not_started(kernel, monkeypatch):
    compiled = []
    monkeypatch.setattr(triton_launch, "prepare", lambda kernels, enter: compiled.extend(kernels))
    spare = Kernel()
    idle = replace(launch(spare, torch.zeros(4)), programs=0)
    recipe = Recipe([launch(kernel, torch.zeros(4)), idle], Scratch(), CPU, kept=True)
    monkeypatch.setattr(recipe, "_device", torch.device("cuda"))
    recipe._first({"out": torch.zeros(8), "k": torch.zeros(2, 16), "scale": 0.5}, aligned=True)
    assert [of for of, _ in compiled] == [kernel, spare]
    assert (len(kernel.first), len(spare.first)) == (1, 0)


def test_scratch_memory_lies_alike_for_tensors_and_for_addresses(kernel):
    scratch = Scratch()
    scratch.take("out", 100)
    scratch.take("k", 32, torch.float16)
    scratch.take("out", 10)  # a later launch's, which needs less
    recipe = Recipe([launch(kernel, torch.zeros(4))], scratch, CPU, kept=True)
    places, size = scratch.places()
    assert [(name, count) for name, _, count, _ in places] == [("out", 400), ("k", 64)]
    assert all(first % 256 == 0 for _, first, _, _ in places)
    assert size >= places[1][1] + 64
    recipe.run({}, {"scale": 1.0})
    recipe.run({}, {"scale": 1.0})
    first, (_, again, _) = kernel.first[0][1], kernel.again[0]
    assert (first["out_ptr"].dtype, first["out_ptr"].numel()) == (torch.float32, 100)
    assert (first["k_box"].base.dtype, first["k_box"].base.numel()) == (torch.float16, 32)
    assert again[4].base.data_ptr() - again[0] == first["k_box"].base.data_ptr() - first["out_ptr"].data_ptr() == 512


def test_each_zero_is_handed_out_once(monkeypatch):
    monkeypatch.setattr(triton_launch._Zeros, "COUNT", 3)
    monkeypatch.setattr(triton_launch, "_ZEROS", {})
    found = [triton_launch._zero(CPU, stream, capturing=False) for stream in (1, 2, 1, 1, 1, 2)]
    addresses, holders = zip(*found, strict=True)
    assert len(set(addresses)) == 6
    assert all(address % 16 == 0 for address in addresses)
    assert holders[0] is holders[2] is holders[3]
    assert len({id(holder) for holder in holders}) == 3  # another one for each stream, and after three


def test_the_alarm_of_a_capture_is_filled_by_the_graph(monkeypatch):
    monkeypatch.setattr(triton_launch, "_ZEROS", {})
    address, own = triton_launch._zero(CPU, 1, capturing=True)
    assert (own.data_ptr(), int(own)) == (address, 0)
    assert triton_launch._ZEROS == {}


def test_compiling_beside_one_another_leaves_triton_as_it_was():
    from triton import AsyncCompileMode
    from triton.runtime._async_compile import active_mode

    made = []
    with ThreadPoolExecutor(1) as pool, AsyncCompileMode(pool) as own:
        prepare([(None, lambda: made.append(active_mode.get()))] * 2, lambda: None)
        assert active_mode.get() is own
    assert made[0] is made[1] is not own
    with pytest.raises(ZeroDivisionError):
        prepare([(None, lambda: 1 // 0)], lambda: None)
    assert active_mode.get() is None


def test_triton_reads_its_files_from_the_first_call_on(monkeypatch):
    """In a thread, which must not be there when a program that has compiled a pattern forks."""
    begun = []
    monkeypatch.setattr(triton_backend, "look_ahead", lambda: begun.append(True))
    monkeypatch.setattr(triton_backend, "interpreting", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    compiled = patternc.compile("std/local", heads=1, window=3, backend="triton")
    assert begun == []
    _ = compiled.source
    assert begun == [True]


def test_launchers_are_made_again_one_after_the_other():
    class CudaLauncher:
        def __init__(self, src, metadata):
            self.made_of, self.thread = (src, metadata), threading.current_thread()

    kernel = SimpleNamespace(src="source", metadata=1, _run=None)

    def warmup():
        kernel._run = CudaLauncher("another", 2)  # as a thread may be given one
        return kernel

    prepare([(None, warmup)], lambda: None)
    assert kernel._run.made_of == ("source", 1)
    assert kernel._run.thread is threading.current_thread()


def test_in_the_interpreter_there_is_nothing_to_start_again():
    assert starter(None, 3, []) is None


# ------------------------------------------------------------------ below Triton's launcher


class Loaded:
    """A kernel that needs no device, under Triton's own launcher, which ends in a list of what it was called with."""

    def __init__(self, monkeypatch, signature, metas):
        from triton.backends.nvidia import driver
        from triton.compiler import CompiledKernel

        def encoded(box, meta):
            return [("map", box.base.data_ptr(), meta), *box.shape, *box.strides]

        monkeypatch.setattr(driver, "make_tensordesc_arg", encoded)
        self.calls = []
        launcher = object.__new__(driver.CudaLauncher)
        launcher.launch = driver.wrap_handle_tensordesc(lambda *a: self.calls.append(a), signature, metas)
        launcher.num_ctas, launcher.launch_cooperative_grid, launcher.launch_pdl = 1, False, True
        launcher.global_scratch_size = launcher.profile_scratch_size = 0
        launcher.global_scratch_align = launcher.profile_scratch_align = 1
        launcher.arg_annotations, launcher.kernel_signature = ["annotations"], b"signature"
        self.kernel = object.__new__(CompiledKernel)
        self.kernel.module = self.kernel.name = self.kernel.src = "kernel"
        self.kernel._run, self.kernel.function, self.kernel.packed_metadata = launcher, 11, (4, 1, 0)


@pytest.mark.parametrize("boxed", [False, True], ids=["pointers", "boxes"])
def test_what_the_launcher_ends_in_is_called_as_the_launcher_calls_it(monkeypatch, boxed):
    if triton_direct.version() not in triton_direct._CALLS:
        pytest.skip("kernels are started by the launcher")
    signature = {0: "*fp32", 1: "tensordesc<fp32[2, 16]>" if boxed else "constexpr", 2: "i32", 3: "constexpr"}
    loaded = Loaded(monkeypatch, signature, ["meta"] if boxed else None)
    out, k = torch.zeros(8), torch.zeros(2, 16)
    box = Box("k", [2, 16], [16, 1], [2, 16]).of(k) if boxed else None
    arguments = [out, box, 5, 16]
    loaded.kernel[(3, 1, 1)](*[a.data_ptr() if a is out else a for a in arguments], stream=7)
    found = starter(loaded.kernel, 3, arguments)
    given = found.arguments.copy()
    given[found.places[0]] = out.data_ptr()
    if boxed:
        given[found.places[1]] = found.boxes[1](k.data_ptr())
        assert found.boxes[1](k.data_ptr()) is found.boxes[1](k.data_ptr())
        assert found.boxes[1](16)[1] == 16
    found.start(given, 7)
    launcher, ours = map(_flat, loaded.calls)
    hooks = [i for i, (a, b) in enumerate(zip(launcher, ours, strict=True)) if a != b]
    assert [ours[i] for i in hooks] == [None] * 3  # what nobody listens to is not told
    assert hooks[0] + 2 == hooks[2]


def _flat(call):
    return [b for a in call for b in (a if isinstance(a, list | tuple) and not isinstance(a[0], str) else [a])]


def test_profilers_are_told(monkeypatch):
    import triton

    loaded = Loaded(monkeypatch, {0: "*fp32"}, None)
    found = starter(loaded.kernel, 3, [torch.zeros(8)])
    told = []
    triton.knobs.runtime.launch_enter_hook.add(told.append)
    try:
        found.start(found.arguments, 7)
        (call,) = loaded.calls
        (metadata,) = (a for a in call if hasattr(a, "get"))
        assert metadata.get()["name"] == "kernel"
        assert triton.knobs.runtime.launch_enter_hook in call
    finally:
        triton.knobs.runtime.launch_enter_hook.remove(told.append)
