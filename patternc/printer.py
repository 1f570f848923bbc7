"""The IR as text: stable, so that it can be compared, and close to the language, so that it can be read.

Names of deeper index spaces carry primes: inside `blocks(64)` the query is q'.
"""

from __future__ import annotations

from patternc import ir
from patternc.fold import show

_LEVEL = {
    "if": 0, "or": 1, "and": 2, "not": 3, "compare": 4, "|": 5, "^": 6, "&": 7, "+": 8, "-": 8, "*": 9, "//": 9, "%": 9,
    "unary": 10, "**": 11, "atom": 12,
}  # fmt: skip


def text(node: ir.Node) -> str:
    """A scalar, a pattern or a whole program."""
    if isinstance(node, ir.Program):
        return _program(node)
    return _print(node, 0)[0]


def _program(program: ir.Program) -> str:
    lines = [f"program {program.name}"]
    for tensor in program.tensors:
        dims = ", ".join([*(["batch"] if tensor.batched else []), *map(text, tensor.dims)])
        lines.append(f"  tensor {tensor.name}: {tensor.element}[{dims}]")
    lines += [f"  grid {' * '.join(f'({text(e)})' for e in grid.extents)} == n" for grid in program.grids]
    return "\n".join([*lines, f"  {text(program.pattern)}"])


def _at(node: ir.Node, depth: int, level: str, above: bool = False) -> str:
    """The text of an operand of an operator of this level, in parentheses where it binds less (`above`: no more)."""
    inner, own = _print(node, depth)
    weak = own < _LEVEL[level] or (above and own == _LEVEL[level])
    return f"({inner})" if weak else inner


def _joined(op: str, args: tuple[ir.Node, ...], depth: int) -> tuple[str, int]:
    return f" {op} ".join(_at(arg, depth, op, above=True) for arg in args), _LEVEL[op]


def _call(name: str, *args: str) -> tuple[str, int]:
    return f"{name}({', '.join(args)})", _LEVEL["atom"]


def _print(node: ir.Node, depth: int) -> tuple[str, int]:
    """Text and binding level of a node in the index space at `depth`."""
    match node:
        case ir.Where() | ir.Blocks() | ir.Cover() | ir.Top() | ir.Sample() | ir.Family() | ir.Support():
            return _pattern(node, depth)
        case ir.Union(args):
            return _joined("|", args, depth)
        case ir.Sum(args):
            return _joined("+", args, depth)
        case ir.Product(args):
            return _joined("&", args, depth)
        case ir.Complement(a):
            return "~" + _at(a, depth, "unary"), _LEVEL["unary"]
        case ir.Choose(condition, then, orelse) | ir.If(condition, then, orelse):
            parts = _at(then, depth, "or"), _at(condition, depth, "or"), _at(orelse, depth, "if")
            return "{} if {} else {}".format(*parts), _LEVEL["if"]
    return _scalar(node, depth)


def _pattern(node: ir.Pattern, depth: int) -> tuple[str, int]:
    match node:
        case ir.Where(ir.Const(value)):
            return ("full" if value else "empty"), _LEVEL["atom"]
        case ir.Where(condition):
            primes = "'" * depth
            return f"{{ q{primes} -> k{primes} : {_print(condition, depth)[0]} }}", _LEVEL["atom"]
        case ir.Support(a):
            return _call("support", _print(a, depth)[0])
        case ir.Family(kind, variable, lo, hi, body):
            over = f"for {variable} in {_at(lo, depth, '|')}..{_at(hi, depth, '|')}"
            return _call(kind, f"{_print(body, depth)[0]} {over}")
        case ir.Blocks(size, body):
            return f"blocks({_print(size, depth)[0]}) {_at(body, depth + 1, 'unary')}", _LEVEL["unary"]
        case ir.Cover(size, body):
            return f"cover({_print(size, depth)[0]}) {_at(body, depth, 'unary')}", _LEVEL["unary"]
        case ir.Top(count, by, of):
            return _call("top", _print(count, depth)[0], f"by = {_print(by, depth)[0]}", f"of = {_print(of, depth)[0]}")
        case ir.Sample(count, of, seed):
            parts = f"of = {_print(of, depth)[0]}", f"seed = {_print(seed, depth)[0]}"
            return _call("sample", _print(count, depth)[0], *parts)
    raise AssertionError(f"not a pattern: {node}")


def _scalar(node: ir.Node, depth: int) -> tuple[str, int]:
    match node:
        case ir.Const(value):
            return show(value), _LEVEL["unary" if not isinstance(value, bool) and value < 0 else "atom"]
        case ir.Var(name, at):
            return name + "'" * at, _LEVEL["atom"]
        case ir.Param(name, _):
            return name, _LEVEL["atom"]
        case ir.Unknown(_, kind):
            return f"<some {kind}>", _LEVEL["atom"]
        case ir.Unary("not", a):
            return "not " + _at(a, depth, "not"), _LEVEL["not"]
        case ir.Unary("-", a):
            return "-" + _at(a, depth, "unary"), _LEVEL["unary"]
        case ir.Unary(name, a):
            return _call(name, _print(a, depth)[0])
        case ir.Binary("min" | "max" as name, a, b):
            return _call(name, _print(a, depth)[0], _print(b, depth)[0])
        case ir.Binary("**", a, b):
            return f"{_at(a, depth, '**', above=True)} ** {_at(b, depth, 'unary')}", _LEVEL["**"]
        case ir.Binary(op, a, b):
            return f"{_at(a, depth, op)} {op} {_at(b, depth, op, above=True)}", _LEVEL[op]
        case ir.Compare(op, a, b):
            return f"{_at(a, depth, '|')} {op} {_at(b, depth, '|')}", _LEVEL["compare"]
        case ir.And(args):
            return _joined("and", args, depth)
        case ir.Or(args):
            return _joined("or", args, depth)
        case ir.Pick(index, items):
            listed = ", ".join(_print(item, depth)[0] for item in items)
            return f"[{listed}][{_print(index, depth)[0]}]", _LEVEL["atom"]
        case ir.Read(tensor, indices):
            places = ", ".join(_print(index, depth)[0] for index in indices)
            return (f"{tensor}[{places}]" if indices else tensor), _LEVEL["atom"]
        case ir.Quantified(kind, variable, lo, hi, body):
            over = f"for {variable} in {_at(lo, depth, '|')}..{_at(hi, depth, '|')}"
            return _call(kind, f"{_print(body, depth)[0]} {over}")
    raise AssertionError(f"not a scalar: {node}")
