"""Hypothesis strategies of .spat programs, as text: typed ones, and mutated ones."""

from __future__ import annotations

import re
from random import Random

from drawn import Program
from hypothesis import strategies as st
from writer import Writer


def writers(**allowed: bool) -> st.SearchStrategy[Writer]:
    """Writers that have made no choice yet.

    Hypothesis draws nothing but their seed: were each choice its own, half of the examples would be variations of
    others. It is made of bytes, the first of which set the sizes, so that failing examples still shrink.
    """
    return st.binary(min_size=10, max_size=10).map(lambda seed: Writer(seed, **allowed))


def programs(**allowed: bool) -> st.SearchStrategy[Program]:
    """Typed programs with a meaning in every cell; `guarded` ones lean on `and`, `or` and `if` for that."""
    return writers(**allowed).map(Writer.program)


def guarded_programs() -> st.SearchStrategy[Program]:
    return programs(guarded=True)


# ------------------------------------------------------------------ mutations

TOKEN = re.compile(
    r"\s+|#[^\n]*|[A-Za-z_]\w*|[0-9][0-9_]*(?:\.[0-9]+)?|\"[^\"\n]*\"|->|=>|==|!=|<=|>=|\*\*|//|\.\.|.", re.DOTALL
)
KINDS: list[list[str]] = [
    ["+", "-", "*", "//", "%", "**", "^", "&", "|"],
    ["<", "<=", ">", ">=", "==", "!=", "in"],
    ["and", "or"],
    ["any", "all", "union", "sum"],
    ["blocks", "cover"],
    ["True", "False", "inf"],
    ["int", "tokens", "blocks", "bool", "float"],
    ["abs", "log2", "len", "min", "max", "clamp", "cdiv", "support", "top", "sample"],
    ["q", "k", "n", "h", "heads", "layer", "batch"],
    ["causal", "full", "diagonal", "empty"],
    [
        "0",
        "1",
        "2",
        "3",
        "4",
        "7",
        "64",
        "1_000",
        "100_000",
        "0.5",
        "1.0",
        "9223372036854775807",
        "4611686018427387904",
    ],
]
"""What may stand for what, roughly, so that most mutations are still sentences."""
OTHERS = ["pattern", "fn", "where", "check", "import", "over", "for", "if", "else", "match", "not", "with", "pool", "~"]
OTHERS += ["->", "=>", "..", ".", ",", ":", "=", "(", ")", "[", "]", "{", "}", "9" * 400, "9" * 19, "@", "<-", "1x"]
WORDS = [token for kind in KINDS for token in kind] + OTHERS


def alike(token: str, names: list[str]) -> list[str]:
    """Tokens that may stand where this one stands: of the language, or names of the text itself."""
    for kind in KINDS:
        if token in kind:
            return kind + (names if token.isalpha() else [])
    return KINDS[-1] if token[0].isdigit() else names


def groups(tokens: list[str]) -> list[slice]:
    """The bracketed parts of a text, brackets included."""
    found, opened = [], []
    for i, token in enumerate(tokens):
        if token in "([{":
            opened.append(i)
        elif token in ")]}" and opened:
            found.append(slice(opened.pop(), i + 1))
    return found


def mutate_once(random: Random, tokens: list[str]) -> list[str]:
    """A token deleted, doubled, swapped with another, or replaced, mostly by one of its kind; or a bracketed part
    copied over another."""
    solid = [i for i, t in enumerate(tokens) if not t.isspace() and t[0] != "#"]
    names = [tokens[i] for i in solid if tokens[i].isidentifier() and tokens[i] not in OTHERS]
    kept = [i for i in solid if tokens[i] in names or tokens[i][0].isdigit() or tokens[i] in KINDS[0] + KINDS[1]]
    parts = groups(tokens)
    if not kept or not parts:
        return tokens
    i, j, out = random.choice(solid), random.choice(solid), list(tokens)
    match random.choice(["alike"] * 7 + ["part"] * 3 + ["any", "delete", "double", "swap"]):
        case "alike":
            i = random.choice(kept)
            out[i] = random.choice(alike(out[i], names))
        case "part":
            out[random.choice(parts)] = tokens[random.choice(parts)]
        case "any":
            out[i] = f" {random.choice(WORDS)} "
        case "delete":
            out[i] = " "
        case "double":
            out[i] = f"{out[i]} {out[i]}"
        case _:
            out[i], out[j] = out[j], out[i]
    return out


def mutate_tokens(random: Random, text: str) -> bytes:
    tokens = TOKEN.findall(text)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        tokens = mutate_once(random, tokens)
    return "".join(tokens).encode()


def mutate_bytes(random: Random, text: str) -> bytes:
    """Bytes deleted, doubled, inserted or replaced in one to three places."""
    data = text.encode()
    for _ in range(random.randint(1, 3)):
        start = random.randint(0, len(data))
        end = start + random.randint(0, 6)
        noise = random.randbytes(random.randint(1, 3))
        inserted = random.choice([b"", noise, data[start:end] * 2, b" ", b"\x00", b"\xff", "\u202e".encode(), b"#"])
        data = data[:start] + inserted + data[end:]
    return data


def mutant(seed: bytes, texts: list[str]) -> bytes:
    """One of the texts or a new program, with mutations, of tokens more often than of bytes."""
    random = Random(seed)
    text = random.choice(texts) if random.random() < 0.5 else Writer(seed).program().text
    return (mutate_bytes if random.random() < 0.2 else mutate_tokens)(random, text)


def mutants(texts: list[str]) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=10, max_size=10).map(lambda seed: mutant(seed, texts))
