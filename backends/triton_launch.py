"""Kernels that are started again and again, with little work on the host: what stays the same from call to call is
bound once, and a kernel that Triton has started once is started by its addresses from then on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import count as counter
from typing import Any, TypeVar

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from patternc.backends.triton_adapter import current_stream, prepare
from patternc.backends.triton_direct import starter

_T = TypeVar("_T")
_UNIT = 256
"""Bytes to a multiple of which places in scratch memory are rounded."""


@dataclass(frozen=True, slots=True)
class Box:
    """A tensor descriptor but for its tensor, which is the value `name` of a call."""

    name: str
    shape: list[int]
    strides: list[int]
    block: list[int]

    def of(self, tensor: torch.Tensor) -> TensorDescriptor:
        return TensorDescriptor(tensor, self.shape, self.strides, self.block)


@dataclass(eq=False)
class Launch:
    """One kernel on one grid. Its arguments are `bound`, or `given`: by the names of values that come with each call.
    Values have the same dtypes in all calls, and integers fit as many bits."""

    kernel: Any
    """A function of Triton's JIT."""
    programs: int
    """0 for a kernel that is compiled and not started: calls of other lengths may need it."""
    bound: Mapping[str, Any]
    """Tensors, numbers, constants, and options of the compiler."""
    given: Mapping[str, str]
    boxes: Mapping[str, Box] = field(default_factory=dict)
    _start: Callable[[list[Any], int], Any] | None = None
    _arguments: list[Any] = field(default_factory=list)
    _places: list[tuple[int, str]] = field(default_factory=list)
    _boxes: list[tuple[int, str, Callable[[int], Any]]] = field(default_factory=list)

    @property
    def ready(self) -> bool:
        """Whether it may be started by addresses."""
        return self._start is not None

    def warmup(self, values: Mapping[str, Any]) -> Any:
        """Lets Triton compile the kernel for such values."""
        return self.kernel.warmup(**self._all(values), grid=(self.programs,))

    def first(self, values: Mapping[str, Any], *, bind: bool) -> None:
        """Starts the kernel on tensors and numbers, through Triton's JIT; `bind`: and so that it may be started again
        by addresses, for tensors that start at multiples of 16 bytes as these do."""
        arguments = self._all(values)
        started = self.kernel[(self.programs,)](**arguments)
        names = self.kernel.arg_names
        found = starter(started, self.programs, [arguments[name] for name in names]) if bind else None
        if found is None:
            return
        place = {name: found.places[i] for i, name in enumerate(names)}
        self._arguments = found.arguments
        self._places = [(place[argument], name) for argument, name in self.given.items()]
        self._boxes = [(place[a], box.name, found.boxes[names.index(a)]) for a, box in self.boxes.items()]
        self._start = found.start

    def again(self, values: Mapping[str, Any], stream: int) -> None:
        """Starts it on addresses, multiples of 16, and numbers."""
        arguments = self._arguments.copy()
        for place, name in self._places:
            arguments[place] = values[name]
        for place, name, at in self._boxes:
            arguments[place] = at(values[name])
        assert self._start is not None, "a kernel is started through the JIT first"
        self._start(arguments, stream)

    def _all(self, values: Mapping[str, Any]) -> dict[str, Any]:
        given = {argument: values[name] for argument, name in self.given.items()}
        boxes = {argument: box.of(values[box.name]) for argument, box in self.boxes.items()}
        return {**self.bound, **given, **boxes}


class Scratch:
    """Memory that launches of one pass share, as named places in one tensor of bytes. Launches follow one another, so a
    name that several take is one place."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, torch.dtype]] = {}

    def take(self, name: str, count: int, dtype: torch.dtype = torch.float32) -> None:
        """A place for so many elements."""
        most, _ = self._counts.get(name, (1, dtype))
        self._counts[name] = max(most, count), dtype

    def places(self) -> tuple[list[tuple[str, int, int, torch.dtype]], int]:
        """(name, first byte, bytes, dtype) of each, and the bytes of all."""
        found, end = [], 0
        for name, (count, dtype) in self._counts.items():
            found.append((name, end, count * dtype.itemsize, dtype))
            end += -(-count * dtype.itemsize // _UNIT) * _UNIT
        return found, end


def apart(make: Callable[[], _T], device: torch.device) -> _T:
    """Makes what is kept, in a thread of its own: torch.compile lends memory of its CUDA graphs to the thread that it
    calls us in, and takes it back when a graph is replayed, whoever may hold it."""
    if device.type != "cuda":
        return make()
    stream = torch.cuda.current_stream(device)

    def made() -> _T:
        with torch.cuda.stream(stream):
            return make()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(made).result()


class _Zeros:
    """Numbers of 32 bits that are 0, each handed out once, for one stream. Filled one by one, each takes a kernel."""

    COUNT = 4096

    def __init__(self, device: torch.device) -> None:
        self._memory = torch.zeros(self.COUNT, 4, dtype=torch.int32, device=device)  # each of them aligned
        self._first, self._used = self._memory.data_ptr(), counter()

    def address(self) -> int | None:
        """Of the next one; None when all are used. The memory is this object's."""
        number = next(self._used)  # one at a time, even of several threads
        return self._first + 16 * number if number < self.COUNT else None


_ZEROS: dict[tuple[torch.device, int], _Zeros] = {}
"""By device and stream."""


def _zero(device: torch.device, stream: int, *, capturing: bool) -> tuple[int, Any]:
    """The address of a 0, and who has to live until the kernels that use it are enqueued."""
    if capturing:  # a graph fills its own one each time
        own = torch.zeros(1, dtype=torch.int32, device=device)
        return own.data_ptr(), own
    while True:
        held = _ZEROS.get((device, stream))
        if held is not None and (address := held.address()) is not None:
            return address, held
        _ZEROS[device, stream] = apart(lambda: _Zeros(device), device)


_CAPTURED: set[Recipe] = set()
"""Those in CUDA graphs: a graph reads the tables of their launches as long as it is there, and does not hold them."""


class Recipe:
    """The launches of a pass, in order, with the scratch memory that they share. The value `alarm` is a number of 32
    bits which is 0 before them."""

    def __init__(self, launches: Sequence[Launch], scratch: Scratch, device: torch.device, *, kept: bool) -> None:
        """`kept`: it will be run again, so what kernels are started by is worth keeping."""
        self._uncompiled = tuple(launches)
        self._launches, self._device, self._kept = tuple(x for x in launches if x.programs), device, kept
        self._places, self._bytes = scratch.places()
        self._offsets = [(name, first) for name, first, _, _ in self._places]
        self._ready = False
        self._alarmed = any("alarm" in launch.given.values() for launch in launches)
        self._streams: set[int] = set()

    def run(self, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, float]) -> None:
        """Starts all launches on the current stream."""
        scratch = torch.empty(self._bytes, dtype=torch.uint8, device=self._device)
        values: dict[str, Any] = {}
        places = 0
        for name, t in tensors.items():
            values[name] = place = t.data_ptr()
            places |= place
        aligned = places % 16 == 0  # kernels are compiled for tensors that are, and others for those that are not
        stream, capturing = self._stream()
        if not self._ready or not aligned:
            alarm = torch.zeros(1, dtype=torch.int32, device=self._device)
            self._first({"alarm": alarm, **tensors, **self._views(scratch), **numbers}, aligned)
            return
        base, holder = scratch.data_ptr(), None
        if self._alarmed:
            values["alarm"], holder = _zero(self._device, stream, capturing=capturing)
        for name, first in self._offsets:
            values[name] = base + first
        values.update(numbers)
        for launch in self._launches:
            launch.again(values, stream)
        del holder

    def _stream(self) -> tuple[int, bool]:
        """The current stream, and whether a CUDA graph is captured on it; the tables of launches will last for it."""
        if self._device.type != "cuda":
            return 0, False
        stream, capturing = current_stream(self._device.index), torch.cuda.is_current_stream_capturing()
        if capturing:
            _CAPTURED.add(self)
        elif stream not in self._streams:
            for t in (value for launch in self._launches for value in launch.bound.values()):
                if isinstance(t, torch.Tensor):
                    t.record_stream(torch.cuda.current_stream(self._device))
            self._streams.add(stream)
        return stream, capturing

    def _views(self, scratch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: scratch[first : first + size].view(dtype) for name, first, size, dtype in self._places}

    def _first(self, values: Mapping[str, Any], aligned: bool) -> None:
        if self._device.type == "cuda" and self._uncompiled:
            warmups = [(launch.kernel, partial(launch.warmup, values)) for launch in self._uncompiled]
            prepare(warmups, partial(torch.cuda.set_device, self._device))
            self._uncompiled = ()
        bind = self._kept and aligned and not self._ready
        for launch in self._launches:
            launch.first(values, bind=bind)
        self._ready = self._ready or (bind and all(launch.ready for launch in self._launches))
