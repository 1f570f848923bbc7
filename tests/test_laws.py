"""The laws of the language over drawn patterns: what two programs that say the same have in common."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from drawn import Program, examples, in_torch
from hypothesis import assume, given, note, settings
from programs import TOKEN, programs, writers
from scalars import HELPERS, Space, literal
from writer import Writer

TOKENS = Space()
BLOCKS = Space(depth=1, length=None)
ANY_SPACE = Space(plain=True, length=None)
LONGEST = 32


@dataclass(frozen=True)
class Law:
    """Two bodies over drawn patterns a, b, c (bags if `bag`) and small numbers x, y."""

    name: str
    left: str
    right: str
    space: Space = TOKENS
    bag: bool = False

    def __str__(self) -> str:
        return self.name


LAWS = [
    Law("product distributes over sum", "({a} + {b}) & {c}", "({a} & {c}) + ({b} & {c})", bag=True),
    Law("product distributes from the left", "{c} & ({a} + {b})", "({c} & {a}) + ({c} & {b})", bag=True),
    Law("sums commute", "{a} + {b} + {c}", "{c} + {a} + {b}", bag=True),
    Law("products commute", "{a} & {b} & {c}", "{c} & {a} & {b}", bag=True),
    Law("arms of a union reorder", "{a} | {b} | {c}", "{c} | {a} | {b}"),
    Law("arms of a match reorder", "match h % 2 {{ 0 => {a}, 1 => {b} }}", "match h % 2 {{ 1 => {b}, 0 => {a} }}"),
    Law("a match is an if", "match h {{ 0..2 => {a}, else => {b} }}", "{a} if h < 2 else {b}", bag=True),
    Law("De Morgan of a union", "~({a} | {b})", "~{a} & ~{b}"),
    Law("De Morgan of a product", "~({a} & {b})", "~{a} | ~{b}"),
    Law("complement twice", "~~{a}", "{a}"),
    Law("difference", "{a} - {b}", "{a} & ~{b}"),
    Law("support is idempotent", "support(support({a}))", "support({a})", bag=True),
    Law("support of a set", "support({a})", "{a}"),
    Law("support of a sum", "support({a} + {b})", "support({a}) | support({b})", bag=True),
    Law("a disjoint sum is a union", "{a} + ({b} - {a})", "{a} | {b}"),
    Law("blocks of one token", "blocks(1) {a}", "{a}", ANY_SPACE, bag=True),
    Law("blocks of blocks", "blocks({x}) blocks({y}) {a}", "blocks({x} * {y}) {a}", ANY_SPACE, bag=True),
    Law("blocks over union", "blocks({x}) ({a} | {b})", "blocks({x}) {a} | blocks({x}) {b}", BLOCKS),
    Law("blocks over product", "blocks({x}) ({a} & {b})", "blocks({x}) {a} & blocks({x}) {b}", BLOCKS, bag=True),
    Law("blocks over sum", "blocks({x}) ({a} + {b})", "blocks({x}) {a} + blocks({x}) {b}", BLOCKS, bag=True),
    Law("blocks over difference", "blocks({x}) ({a} - {b})", "blocks({x}) {a} - blocks({x}) {b}", BLOCKS),
    Law("blocks over complement", "blocks({x}) ~{a}", "~blocks({x}) {a}", BLOCKS),
    Law("cover over union", "cover({x}) ({a} | {b})", "cover({x}) {a} | cover({x}) {b}"),
    Law("cover is extensive", "{a} & cover({x}) {a}", "{a}"),
    Law("cover is monotone", "cover({x}) ({a} & {b}) - cover({x}) {a}", "empty"),
    Law("cover is idempotent", "cover({x}) cover({x}) {a}", "cover({x}) {a}"),
    Law("cover of blocks", "cover({x}) blocks({x}) {a}", "blocks({x}) {a}", BLOCKS),
    Law("top of a union of tops", "top(2, by = k, of = top(3, by = k, of = {a}))", "top(2, by = k, of = {a})"),
]


def same_masks(left: Program, right: Program) -> None:
    n = left.length(LONGEST)
    n_q = left.queries(n)
    tensors = in_torch(left.make_tensors(n))
    note(f"{left.text}\n{right.text}{left} at n = {n}, n_q = {n_q}")
    masks = [side.compile().mask(n, n_q, **tensors).numpy() for side in (left, right)]
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_law(law: Law) -> None:
    @settings(max_examples=examples(50))
    @given(writers(grids=False))
    def holds(writer: Writer) -> None:
        depth = 1 + writer.depth // 2
        parts = {name: writer.pattern(law.space, depth, law.bag) for name in "abc" if f"{{{name}}}" in law.left}
        numbers = {"x": writer.number(1, 5), "y": writer.number(1, 4)}
        left, right = (writer.around(side.format(**parts, **numbers)) for side in (law.left, law.right))
        same_masks(left, right)

    holds()


def test_cover_does_not_distribute_over_products() -> None:
    """Two keys of one block: each alone is covered, together they are empty."""
    even, odd = "{ q -> k : k % 2 == 0 }", "{ q -> k : k % 2 == 1 }"
    together = Program(f"pattern p() = cover(2) ({even} & {odd})", 1, 0).compile().mask(4)
    apart = Program(f"pattern p() = cover(2) {even} & cover(2) {odd}", 1, 0).compile().mask(4)
    assert not together.any()
    assert apart.all()


# ------------------------------------------------------------------ texts that mean the same


def rewritten(program: Program, rename: Callable[[str], str]) -> Program:
    """The program with every token of its text, and every name outside it, replaced."""
    text = "".join(map(rename, TOKEN.findall(program.text)))
    tensors = tuple(replace(t, name=rename(t.name)) for t in program.tensors)
    return replace(program, text=text, params={rename(p): v for p, v in program.params.items()}, tensors=tensors)


OWN_NAME = re.compile(r"[pwvi]\d+|row|col|i|j|a|b|s|m|r|far|main|\w+_\d+|" + "|".join(HELPERS))


@settings(max_examples=examples(50))
@given(programs(tensors=False))
def test_names_do_not_matter(program: Program) -> None:
    """Run-time tensors keep their names here: their values are drawn by name."""
    same_masks(program, rewritten(program, lambda t: f"the_{t}" if OWN_NAME.fullmatch(t) else t))


@settings(max_examples=examples(50))
@given(writers())
def test_names_of_positions_do_not_matter(writer: Writer) -> None:
    condition = writer.condition(Space(grid=False), 2)
    assume(not writer.where)  # bindings speak of q and k whatever a set builder calls them
    other = "".join({"q": "target", "k": "source"}.get(t, t) for t in TOKEN.findall(condition))
    left = writer.around(f"{{ q -> k : {condition} }}")
    same_masks(left, writer.around(f"{{ target -> source : {other} }}"))


@settings(max_examples=examples(50))
@given(programs())
def test_constants_may_be_computed(program: Program) -> None:
    same_masks(program, rewritten(program, lambda t: f"({t} + 2 * 3 - 6)" if t.isdigit() else t))


@settings(max_examples=examples(50))
@given(programs())
def test_arguments_may_be_defaults(program: Program) -> None:
    """A program given its values from outside is the program that has them for defaults."""
    text = program.text
    for name, value in program.params.items():
        declaration = rf"(?<=[(,\s])({name}: (?:\[.*?\]+|\w+))(?: = \w+)?(?=[,)])"
        text, count = re.subn(declaration, rf"\1 = {literal(value)}", text)
        assert count == 1
    same_masks(program, replace(program, text=text, params={}))


# ------------------------------------------------------------------ laws of attention


def attend(program: Program, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **tensors: torch.Tensor) -> list:
    """Outputs and lse of both backends."""
    backends = ("reference", "torch")
    return [program.compile(backend=name)(q, k, v, return_lse=True, **tensors) for name in backends]


def random_qkv(program: Program, n: int, n_q: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(n)
    return [torch.randn((2, program.heads, length, 8), dtype=torch.float64, generator=random) for length in (n_q, n, n)]


@settings(max_examples=examples(50))
@given(writers())
def test_a_pattern_added_to_itself(writer: Writer) -> None:
    """A + A has A's output, and its lse + log 2."""
    a = writer.pattern(Space(grid=False), writer.depth, bag=True)
    once, twice = writer.around(a), writer.around(f"({a}) + ({a})")
    n = once.length(LONGEST)
    n_q = once.queries(n)
    tensors = in_torch(once.make_tensors(n))
    note(f"{twice.text}{twice} at n = {n}, n_q = {n_q}")
    qkv = random_qkv(once, n, n_q)
    for (out, lse), (out2, lse2) in zip(attend(once, *qkv, **tensors), attend(twice, *qkv, **tensors), strict=True):
        torch.testing.assert_close(out2, out, rtol=0, atol=1e-12)
        torch.testing.assert_close(lse2, lse + math.log(2), rtol=0, atol=1e-12)


@settings(max_examples=examples(50))
@given(programs())
def test_permuted_keys_and_values(program: Program) -> None:
    """If keys and values change places and the mask's columns with them, outputs stay."""
    n = program.length(LONGEST)
    n_q = program.queries(n)
    tensors = in_torch(program.make_tensors(n, batch=1))
    mask = program.compile().mask(n, n_q, **tensors).reshape(-1, program.heads, n_q, n)[0].clamp(max=3)
    m = torch.zeros(program.heads, n, n, dtype=torch.int64)
    m[:, n - n_q :] = mask
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    table = "pattern p(m: int[heads, n, n]) = sum({ q -> k : m[h, q, k] > i } for i in 0..3)"
    dense = Program(table, program.heads, 0)
    np.testing.assert_array_equal(dense.compile().mask(n, n_q, m=m[:, :, order]), mask[:, :, order])
    q, k, v = random_qkv(program, n, n_q)
    before = attend(dense, q, k, v, m=m)
    after = attend(dense, q, k[:, :, order], v[:, :, order], m=m[:, :, order])
    for (out, lse), (out2, lse2) in zip(before, after, strict=True):
        torch.testing.assert_close(out2, out, rtol=0, atol=1e-12)
        torch.testing.assert_close(lse2, lse, rtol=0, atol=1e-12)
