"""Prints numbers as Triton expressions of blocks of queries and keys, and where they have a value."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable

from patternc import ir
from patternc.backends.triton_mask_arguments import table_name
from patternc.backends.triton_mask_facts import Fact, Facts, Space, UnsupportedPatternError
from patternc.backends.triton_mask_text import (
    AND,
    ATOM,
    COMPARE,
    FALSE,
    LONG,
    OR,
    PLUS,
    SHIFT,
    TIMES,
    TRUE,
    UNARY,
    XOR,
    Lines,
    Text,
    both,
    either,
)

MOST_CHARACTERS = 8000
"""The longest body of a function that is printed: Triton compiles for too long with longer ones."""
SHAPE = "(q + k).shape"
"""That of a block of cells."""
_INFIX = {"+": PLUS, "-": PLUS, "*": TIMES, "^": XOR}


class NumberPrinter(ABC):
    """Adds the lines of one function; `wide` says that its integers are int64, else they are int32."""

    def __init__(self, lines: Lines, facts: Facts, uses: Counter[int], wide: bool) -> None:
        self.lines, self.facts, self.uses = lines, facts, uses
        self.integer = "tl.int64" if wide else "tl.int32"
        self.words: set[str] = set()
        self.known: dict[tuple[str, int, Space], Text] = {}
        """What is computed, by its role, node and space."""
        self.bound: dict[str, Text] = {}
        """The names of quantified variables."""

    @abstractmethod
    def holds(self, node: ir.Scalar, space: Space) -> Text:
        """Where a condition has a value and is true."""

    @abstractmethod
    def fails(self, node: ir.Scalar, space: Space) -> Text:
        """Where a condition has a value and is false."""

    # -------------------------------------------------------------- naming

    def once(self, role: str, node: ir.Node, space: Space, make: Callable[[], Text], name: str = "x") -> Text:
        """The expression of a role of a node; it gets a name if it is long or several others use it."""
        key = (role, id(node), space)
        if key not in self.known:
            text = make()
            again = self.uses[id(node)] > 1 or len(text.text) > LONG
            self.known[key] = self.named(name, text) if again else text
        return self.known[key]

    def named(self, kind: str, text: Text) -> Text:
        self.check_length()
        return Text(self.lines.assigned(kind, text.text)) if not text.text.isidentifier() else text

    def check_length(self) -> None:
        if len(self.lines) > MOST_CHARACTERS:
            raise UnsupportedPatternError(f"its mask is a program of more than {MOST_CHARACTERS:,} characters")

    def all_of(self, texts: Iterable[Text]) -> Text:
        result = TRUE
        for text in texts:
            result = both(self.short(result), text)
        return result

    def any_of(self, texts: Iterable[Text]) -> Text:
        result = FALSE
        for text in texts:
            result = either(self.short(result), text)
        return result

    def short(self, text: Text) -> Text:
        return self.named("c", text) if len(text.text) > LONG else text

    def call(self, word: str, *args: Text) -> Text:
        """A call of a function of triton_words."""
        self.words.add(word)
        return Text(f"{word}({', '.join(a.text for a in args)})")

    # -------------------------------------------------------------- spaces

    def position(self, name: str, space: Space) -> Text:
        """The query or the key of a space."""
        if not space.sizes:
            return Text(name)
        key = (name, 0, space)
        if key not in self.known:
            depth, size = len(space.sizes), space.sizes[-1]
            outer = self.outer(space)
            divisor = self.size(size, outer)
            text = f"{self.position(name, outer).text} // {divisor.within(UNARY)}"
            self.known[key] = Text(self.lines.assigned(f"{name}_{depth}", text))
        return self.known[key]

    def length(self, space: Space) -> Text:
        """The number of keys of a space."""
        if not space.sizes:
            return Text("n")
        key = ("n", 0, space)
        if key not in self.known:
            outer = self.outer(space)
            size, text = self.size(space.sizes[-1], outer), self.length(outer)
            name = self.lines.assigned(f"n_{len(space.sizes)}", f"({text.text} - 1) // {size.within(UNARY)} + 1")
            self.known[key] = Text(name)
        return self.known[key]

    def size(self, size: ir.Scalar, space: Space) -> Text:
        """The size of blocks of a space; where it hangs on n it is 1 or more, or the planner refuses n."""
        if isinstance(size, ir.Const):
            return self.number(size, space)
        return self.once("size", size, space, lambda: self.named("size", self.number(size, space)))

    @staticmethod
    def outer(space: Space) -> Space:
        return Space(space.sizes[:-1], space.lengths[:-1], space.most[:-1])

    # -------------------------------------------------------------- numbers

    def number(self, node: ir.Scalar, space: Space) -> Text:
        """The value of a number where it has one, in its own type; anything elsewhere."""
        if isinstance(node, ir.Const | ir.Param | ir.Var):
            return self._leaf(node, space)
        return self.once("number", node, space, lambda: self._number(node, space), _name_of(node, space))

    def _leaf(self, node: ir.Scalar, space: Space) -> Text:
        match node:
            case ir.Const(float() as value):
                shown = repr(value) if math.isfinite(value) else f'{"-" * (value < 0)}float("inf")'
                return Text(f"tl.full((), {shown}, tl.float64)")
            case ir.Const(value):
                return Text(repr(int(value)), ATOM if value >= 0 else UNARY)
            case ir.Param(name):
                return Text(name)
        assert isinstance(node, ir.Var)
        if node.name in self.bound:
            return self.bound[node.name]
        if node.name == "n":
            depth = node.depth
            return self.length(Space(space.sizes[:depth], space.lengths[: depth + 1], space.most[: depth + 1]))
        return Text("h") if node.name == "h" else self.position(node.name, space)

    def typed(self, node: ir.Scalar, space: Space) -> Text:
        """A number with a type of its own: a plain literal has none."""
        text = self.number(node, space)
        literal = isinstance(node, ir.Const) and not isinstance(node.value, float)
        return Text(f"tl.full((), {text.text}, {self.integer})") if literal else text

    def real(self, node: ir.Scalar, space: Space) -> Text:
        """A number as float64."""
        if self.facts.of(node, space).kind == "real":
            return self.number(node, space)
        text = self.number(node, space)
        if isinstance(node, ir.Const):
            return Text(f"tl.full((), {text.text}, tl.float64)")
        return Text(f"tl.cast({text.text}, tl.float64)")

    def operands(self, a: ir.Scalar, b: ir.Scalar, space: Space) -> tuple[Text, Text]:
        """Two numbers of one type, at least one of them typed."""
        if "real" in (self.facts.of(a, space).kind, self.facts.of(b, space).kind):
            return self.real(a, space), self.real(b, space)
        left = self.typed(a, space) if isinstance(b, ir.Const) else self.number(a, space)
        return left, self.number(b, space)

    def _number(self, node: ir.Scalar, space: Space) -> Text:
        match node:
            case ir.Unary("-", a):
                return Text(f"-{self.typed(a, space).within(UNARY)}", UNARY)
            case ir.Unary("abs", a):
                return Text(f"tl.abs({self.typed(a, space).text})")
            case ir.Unary("log2", a):
                return self.call("ceil_log2", self.typed(a, space))
            case ir.Binary(op, a, b):
                return self._binary(op, a, b, space)
            case ir.If(condition, then, orelse):
                left, right = self.operands(then, orelse, space)
                return _where(self.holds(condition, space), left, right)
            case ir.Pick(index, items):
                return self._pick(index, items, self.facts.of(node, space), space)
            case ir.Read():
                return self.element(node, space)
        raise AssertionError(f"not a number: {node}")

    def _binary(self, op: str, a: ir.Scalar, b: ir.Scalar, space: Space) -> Text:
        left, right = self.operands(a, b, space)
        is_real = self.facts.of(a, space).kind == "real" or self.facts.of(b, space).kind == "real"
        if op in _INFIX:
            level = _INFIX[op]
            return Text(f"{left.within(level)} {op} {right.within(level + 1)}", level)
        if op in ("min", "max") and is_real:
            return self.call("smaller" if op == "min" else "larger", left, right)
        if op in ("min", "max"):
            return Text(f"tl.{op}imum({left.text}, {right.text})")
        return self._power(a, b, space) if op == "**" else self._divided(op, a, b, space)

    def _divided(self, op: str, a: ir.Scalar, b: ir.Scalar, space: Space) -> Text:
        """`//` or `%` of integers; shifts and masks floor, and so does Triton's division of what is not negative."""
        left, right = self.operands(a, b, space)
        x, y = self.facts.of(a, space), self.facts.of(b, space)
        plain = x.lo >= 0 and y.lo > 0
        if isinstance(b, ir.Const) and is_power_of_two(y.lo) and not plain:
            shift = y.lo.bit_length() - 1
            if op == "//":
                return Text(f"{left.within(SHIFT)} >> {shift}", SHIFT)
            return Text(f"{left.within(AND)} & {y.lo - 1}", AND)
        if plain:
            return Text(f"{left.within(TIMES)} {op} {right.within(UNARY)}", TIMES)
        if y.lo <= 0 <= y.hi:
            right = self.call("nonzero", self.typed(b, space))
        return self.call("floor_divide" if op == "//" else "modulo", left, right)

    def _power(self, a: ir.Scalar, b: ir.Scalar, space: Space) -> Text:
        if isinstance(b, ir.Const) and 0 < b.value <= 3:
            base = self.named("x", self.typed(a, space))
            return Text(" * ".join([base.within(UNARY)] * int(b.value)), TIMES)
        if isinstance(a, ir.Const) and a.value == 2:
            return self.call("power_of_two", self.typed(b, space))
        return self.call("power", self.typed(a, space), self.typed(b, space))

    def _pick(self, index: ir.Scalar, items: tuple[ir.Scalar, ...], fact: Fact, space: Space) -> Text:
        at = self._index(index, space)
        is_real = fact.kind == "real"
        result = (self.real if is_real else self.typed)(items[0], space)
        for i, item in enumerate(items[1:], 1):
            value = (self.real if is_real else self.number)(item, space)
            result = _where(Text(f"{at.text} == {i}", COMPARE), value, result)
            result = self.named("x", result) if len(result.text) > LONG else result
        return result

    def _handle(self, node: ir.Scalar, space: Space) -> Text:
        """A number by a name, unless it is a literal."""
        if isinstance(node, ir.Const):
            return self.number(node, space)
        self.known["number", id(node), space] = self.named(_name_of(node, space), self.number(node, space))
        return self.known["number", id(node), space]

    def _index(self, index: ir.Scalar, space: Space) -> Text:
        return self.once("index", index, space, lambda: self.named("index", self.typed(index, space)))

    # -------------------------------------------------------------- run-time tensors

    def element(self, node: ir.Read, space: Space) -> Text:
        """One element; 0 or False where an index is out of range: no memory outside the tensor is read."""
        return self.once("element", node, space, lambda: self._element(node, space))

    def _element(self, node: ir.Read, space: Space) -> Text:
        name, kind = table_name(node.tensor), self.facts.tensors[node.tensor].element
        if not node.indices:
            loaded = f"tl.load(table_{name})"
        else:
            at = [self._handle(index, space) for index in node.indices]
            places = " + ".join(f"tl.cast({a.text}, tl.int64) * stride{i}_{name}" for i, a in enumerate(at))
            loaded = f"tl.load(table_{name} + {places}, mask={self._inside(node, space).text}, other=0)"
        match kind:
            case "bool":
                loaded = f"{loaded} != 0"
            case "float":
                loaded = f"tl.cast({loaded}, tl.float64)"
            case _ if self.integer == "tl.int64":
                loaded = f"tl.cast({loaded}, tl.int64)"
            case _:
                loaded = self.call("whole", Text(loaded)).text
        return Text(self.lines.assigned(f"at_{name}", loaded))

    def _inside(self, node: ir.Read, space: Space) -> Text:
        """Whether every index is in the range of its axis. Facts hold for tokens only, so they leave out no test but
        that for negative positions."""
        return self.once("inside", node, space, lambda: self._make_inside(node, space))

    def _make_inside(self, node: ir.Read, space: Space) -> Text:
        tests = []
        for i, index in enumerate(node.indices):
            at = self._handle(index, space)
            if isinstance(index, ir.Const):
                tests.append(TRUE if index.value >= 0 else FALSE)
            elif not (isinstance(index, ir.Var) and index.name in ("q", "k")):
                tests.append(Text(f"{at.within(OR)} >= 0", COMPARE))
            tests.append(Text(f"{at.within(OR)} < size{i}_{table_name(node.tensor)}", COMPARE))
        return self.named("inside", self.all_of(tests))

    # -------------------------------------------------------------- where there is a value

    def valid(self, node: ir.Scalar, space: Space) -> Text:
        """Where a number has a value."""
        if self.facts.of(node, space).sure:
            return TRUE
        return self.once("valid", node, space, lambda: self._valid(node, space), "valid")

    def _valid(self, node: ir.Scalar, space: Space) -> Text:
        match node:
            case ir.Unary(op, a):
                positive = self._test(a, "> 0", space) if op == "log2" else TRUE
                return both(self.valid(a, space), positive)
            case ir.Binary(op, a, b):
                operands = both(self.valid(a, space), self.valid(b, space))
                if op in ("//", "%"):
                    return both(operands, self._test(b, "!= 0", space))
                return both(operands, self._test(b, ">= 0", space)) if op == "**" else operands
            case ir.If(condition, then, orelse):
                first = both(self.holds(condition, space), self.valid(then, space))
                return either(first, both(self.fails(condition, space), self.valid(orelse, space)))
            case ir.Pick(index, items):
                return self.one_item(index, [self.valid(item, space) for item in items], space)
            case ir.Read(_, indices):
                tests = [self.valid(index, space) for index in indices]
                return self.all_of([*tests, self._inside(node, space)])
        raise AssertionError(f"not a number: {node}")

    def _test(self, node: ir.Scalar, test: str, space: Space) -> Text:
        """A comparison of a number with 0, left out where it surely holds."""
        fact = self.facts.of(node, space)
        surely = {"> 0": fact.lo > 0, ">= 0": fact.lo >= 0, "!= 0": fact.lo > 0 or fact.hi < 0}
        if fact.kind == "int" and surely[test]:
            return TRUE
        return Text(f"{self.typed(node, space).within(OR)} {test}", COMPARE)

    def one_item(self, index: ir.Scalar, items: list[Text], space: Space) -> Text:
        """The condition among `items` that an index picks; False outside the list."""
        at = self._index(index, space)
        if all(item == TRUE for item in items):
            chosen = both(self._test(index, ">= 0", space), Text(f"{at.text} < {len(items)}", COMPARE))
        else:
            chosen = self.any_of(both(Text(f"{at.text} == {i}", COMPARE), item) for i, item in enumerate(items))
        return both(self.valid(index, space), chosen)


def is_power_of_two(x: int) -> bool:
    return x > 0 and x & (x - 1) == 0


def _where(condition: Text, then: Text, orelse: Text) -> Text:
    if condition in (TRUE, FALSE):
        return then if condition == TRUE else orelse
    return Text(f"tl.where({condition.text}, {then.text}, {orelse.text})")


def _name_of(node: ir.Scalar, space: Space) -> str:
    match node:
        case ir.Binary("-", ir.Var("q"), ir.Var("k")):
            return f"d_{len(space.sizes)}" if space.sizes else "d"
    return "x"
