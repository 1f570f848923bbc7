"""fit: the value of a parameter for a density."""

import pytest

import patternc

BUMPY = """
# A window, and nothing where it is a multiple of three.
pattern bumpy(window: tokens = 4) = { q -> k : q - k < window and k <= q and window % 3 != 0 }
"""


@pytest.mark.parametrize(("source", "over", "n", "params"), [
    ("std/local", "window", 500, {}),
    ("std/presets/local", "window", 300, {}),
    ("std/global_local", "hubs", 200, {"window": 8}),
    ("std/dilated_sparse", "block", 256, {"rates": [1, 2]}),
    ("std/gemma", "window", 300, {}),
])  # fmt: skip
@pytest.mark.parametrize("density", [0.1, 0.3])
def test_no_value_comes_nearer(source, over, n, params, density):
    found = patternc.fit(source, density, over, n, heads=2, **params)

    def reached(value):
        compiled = patternc.compile(source, heads=2, **params, **{over: value})
        return float((compiled.mask(n) > 0).double().mean())

    assert found.density == pytest.approx(reached(found.value), abs=1e-12)
    near = [reached(value) for value in (found.value - 1, found.value, found.value + 1) if 1 <= value <= n]
    assert min(abs(d - density) for d in near) == pytest.approx(abs(found.density - density), abs=1e-12)
    assert found.params == {**params, over: found.value}


def test_a_density_that_falls_is_found_too():
    text = "pattern comb(step: int = 2) = { q -> k : k % step == 0 }"
    found = patternc.fit(text, 0.1, "step", 100)
    assert (found.value, found.density) == (10, 0.1)


def test_the_result_compiles_and_speaks():
    found = patternc.fit("std/local", 0.25, n=64, heads=4)
    compiled = found.compile(kv_heads=2)
    assert (compiled.heads, compiled.kv_heads) == (4, 2)
    assert compiled.stats(64).density == found.density
    assert str(found).startswith(f"local: window = {found.value} keeps 2")
    assert str(found).endswith("at n = 64; 25.0000% was asked for")
    assert found.compile(heads=1).heads == 1


def test_run_time_tensors_are_counted():
    numpy = pytest.importorskip("numpy")
    hub = numpy.zeros((1, 64), dtype=bool)
    hub[0, :2] = True
    found = patternc.fit("std/longformer", 0.3, "w", 64, dilation=[1], tensors={"is_global": hub})
    assert found.density == pytest.approx(0.3, abs=0.02)


def test_what_cannot_be_reached_says_how_far_it_goes():
    with pytest.raises(
        ValueError, match=r"local does not reach density 0.9: window = 1 gives 0.01, window = 100 gives"
    ):
        patternc.fit("std/local", 0.9, n=100)
    with pytest.raises(ValueError, match=r"global_local does not reach density 0.01: hubs = 1 gives 0.1"):
        patternc.fit("std/global_local", 0.01, "hubs", 100, window=10)


def test_a_density_that_goes_up_and_down_is_told():
    with pytest.raises(
        ValueError, match=r"the density of bumpy neither rises nor falls throughout with window: window"
    ):
        patternc.fit(BUMPY, 0.3, n=100)


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"over": "windw"}, TypeError, "unknown parameter 'windw'; did you mean 'window'"),
    ({"window": 3}, TypeError, "'window' is to be found; it was also given, as 3"),
    ({"density": 0}, ValueError, "above 0 and at most 1; found 0"),
    ({"source": "std/longnet", "over": "levels"}, TypeError, r"must be an integer to be fitted; it is \[\(tokens, "),
    ({"widow": 3}, TypeError, "no parameter 'widow'"),
])  # fmt: skip
def test_wrong_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        patternc.fit(**{"source": "std/local", "n": 32, **arguments})
