"""Measuring: clocks, contenders in turns, rows and their table, the command, and what the benchmarks fit and draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import turn_jobs
from click.testing import CliRunner, Result

import patternc
from benchmarks import costs, report, turns
from patternc.bench.bench import bench, computed_pairs
from patternc.bench.clocks import HostClock, clock_of
from patternc.bench.contenders import PEERS, Contender, Size, inputs, known, no_flash, resolved
from patternc.bench.measure import LEAST, WARM, Effort, alternated, difference, tried
from patternc.bench.rows import Beside, Pass, Row, direction, means, table
from patternc.cli import commands
from patternc.plan import PARTIAL

CPU = torch.device("cpu")
SIZE = Size(96, 16, torch.float32, CPU)
LOCAL = "pattern local(window: tokens = 20) = { q -> k : 0 <= q - k < window }"
DOCUMENTS = "pattern p(doc: int[batch, n]) = causal & { q -> k : doc[q] == doc[k] }"


def call(*args: object) -> Result:
    return CliRunner().invoke(commands, ["bench", *map(str, args)], prog_name="patternc")


# ------------------------------------------------------------------ turns


class Ticks:
    """A clock that counts: each call takes as many milliseconds as it says."""

    def __init__(self) -> None:
        self.log: list[tuple[str, bool]] = []

    def timed(self, run: Callable[[], Any], *, wait: bool = False) -> tuple[Any, Callable[[], float]]:
        result = run()
        self.log.append(("forward" if isinstance(result, torch.Tensor) else "backward", wait))
        taken = float(len(self.log))
        return result, lambda: taken

    def settle(self) -> None: ...


def contender(name: str, log: list[str]) -> Contender:
    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        log.append(name)
        return q + k + v

    return Contender(name, attention)


def test_contenders_take_turns_and_the_first_turns_do_not_count():
    log: list[str] = []
    clock = Ticks()
    given = inputs(1, 1, SIZE)
    times = alternated([contender("a", log), contender("b", log)], given, clock, Effort(4, 60), waiting=("a",))
    assert log == ["a", "b"] * (WARM + 4)
    assert clock.log[:4] == [("forward", True), ("backward", False), ("forward", False), ("backward", False)]
    first = 4 * WARM
    assert times["a"].forward == [first + 1, first + 5, first + 9, first + 13]
    assert times["b"].backward == [first + 4, first + 8, first + 12, first + 16]
    assert times["b"].medians()[:2] == (first + 9, first + 10)


def test_an_effort_ends_with_its_time_but_not_before_a_few_turns():
    log: list[str] = []
    times = alternated([contender("a", log)], inputs(1, 1, SIZE), HostClock(), Effort(10**6, 0))
    assert len(times["a"].forward) == LEAST


def test_the_clock_of_a_host_counts_milliseconds():
    _, read = clock_of(CPU).timed(lambda: torch.randn(1000).sum())
    assert 0 < read() < 1000


def test_a_contender_that_cannot_run_says_why():
    def broken(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("\n  out of luck\nmore")

    assert tried(Contender("x", broken), inputs(1, 1, SIZE)) == "RuntimeError: out of luck"


def test_a_difference_is_relative_to_the_largest_value():
    assert difference([torch.tensor([1.0, 5.0])], [torch.tensor([1.0, 4.0])]) == 0.25


# ------------------------------------------------------------------ rows


def test_a_direction_counts_useful_operations():
    found = direction({"ours": 2.0, "flex": 5.0}, flops=4e12, roofline=8000.0)
    assert found == Pass(2.0, 2000.0, 0.25, {"flex": Beside(5.0, 2.5)})


def row(pattern: str, peers: dict[str, float]) -> Row:
    one = Pass(2.0, 100.0, 0.125, {name: Beside(2 * ratio, ratio) for name, ratio in peers.items()})
    return Row(pattern, 64, 16, "float32", "torch", 0.25, None, one, one, 12.0, 3, 800.0, None, {})


def test_means_are_geometric_and_over_the_rows_that_have_the_peer():
    rows = [row("a", {"dense": 2.0, "flex": 3.0}), row("b", {"dense": 8.0})]
    assert means(rows)["backward"] == pytest.approx({"dense": 4.0, "flex": 3.0})


def test_the_table_leaves_out_what_is_missing():
    lines = table([row("a", {"dense": 2.0, "flex": 3.0}), row("bb", {"dense": 8.0})]).splitlines()
    assert lines[0].split()[:4] == ["pattern", "wanted", "padding", "fwd"]
    assert [line.split()[6:8] for line in lines[1:]] == [["2.00", "3.00"], ["8.00", "-"]]
    assert len({len(line) for line in lines}) == 1


# ------------------------------------------------------------------ a pattern


def test_a_pattern_beside_its_peers():
    compiled = patternc.compile(LOCAL, heads=2)
    there, missing = resolved(PEERS, compiled, SIZE, {})
    assert [peer.name for peer in there] == ["dense", "causal", "flex"]
    assert missing == {"flash": "it runs on CUDA devices"}
    found = bench(compiled, SIZE, {}, there, Effort(2, 5), missing=missing)
    assert found.wanted == pytest.approx(compiled.stats(SIZE.n).density)
    assert found.backend == "torch"
    assert found.padding is not None
    assert 1 <= found.padding < 6
    assert found.difference is not None
    assert found.difference < 1e-5
    assert found.repeats == 2
    flops = 4 * SIZE.dim * compiled.stats(SIZE.n).wanted_pairs
    assert found.forward.tflops * found.forward.ms * 1e9 == pytest.approx(flops)
    assert found.backward.tflops * found.backward.ms * 1e9 == pytest.approx(2.5 * flops)
    assert found.backward.peers.keys() == {"dense", "causal", "flex"}


def test_run_time_tensors_and_grouped_heads():
    compiled = patternc.compile(DOCUMENTS, heads=4, kv_heads=2)
    size = Size(64, 8, torch.float32, CPU, batch=2)
    tensors = {"doc": torch.arange(64).expand(2, 64) // torch.tensor([[8], [32]])}
    there, _ = resolved(["dense", "flex"], compiled, size, tensors)
    found = bench(compiled, size, tensors, there, Effort(1, 5))
    assert found.wanted == pytest.approx((8 * 36 + 2 * 528) / 2 / 64**2)
    assert found.difference is not None
    assert found.difference < 1e-5
    given = inputs(4, 2, size)
    pairs = computed_pairs("torch", compiled, size, given, tensors)
    assert pairs is not None
    assert found.padding == pytest.approx(pairs / (found.wanted * 2 * 4 * 64**2))
    assert computed_pairs("reference", compiled, size, given, tensors) is None


def test_pairs_of_the_triton_backend_are_those_of_its_plan():
    compiled = patternc.compile(DOCUMENTS, heads=2)
    size = Size(256, 16, torch.float32, CPU, batch=2)
    tensors = {"doc": torch.arange(256).expand(2, 256) // torch.tensor([[64], [256]])}
    pairs = computed_pairs("triton", compiled, size, inputs(2, 2, size), tensors)
    tile = (64, 64)  # whole documents in the first row, causal attention in the second
    assert pairs == 2 * (4 + 10) * tile[0] * tile[1]


def test_a_peer_that_fails_is_left_out_and_ours_may_not_fail():
    def broken(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no")

    compiled = patternc.compile(LOCAL, heads=1)
    found = bench(compiled, SIZE, {}, [Contender("x", broken)], Effort(1, 5))
    assert found.missing == {"x": "RuntimeError: no"}
    assert not found.forward.peers
    with pytest.raises(TypeError, match="needs the run-time tensor doc"):
        bench(patternc.compile(DOCUMENTS, heads=1), SIZE, {}, [], Effort(1, 5))


def test_peers_are_known():
    assert known(["flex", "dense", "flex"]) == ("flex", "dense")
    with pytest.raises(ValueError, match="unknown peer 'flax'"):
        known(["flax"])
    assert no_flash(torch.device("cuda")) in (None, "not installed")


# ------------------------------------------------------------------ the command


def test_the_command_prints_a_table_and_writes_the_figures(tmp_path: Path):
    program, output = tmp_path / "a.spat", tmp_path / "a.json"
    program.write_text(LOCAL, encoding="utf-8")
    result = call(
        program, "std/documents", "-n", 64, "--heads", 2, "--dim", 8, "--repeats", 1, "--device", "cpu", "--peers",
        "dense,flash", "--json", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["pattern", "local", "documents"]
    assert lines[3:] == [f"{name}: flash: it runs on CUDA devices" for name in ("local", "documents")]
    found = json.loads(output.read_text(encoding="utf-8"))
    assert {"command", "date", "device", "versions", "heads", "rows"} == found.keys()
    assert [one["pattern"] for one in found["rows"]] == ["local", "documents"]
    assert found["rows"][0]["forward"]["peers"]["dense"]["ratio"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--peers", "flax"], "unknown peer 'flax'"),
        (["--device", "cuda:77"], "cannot be used here"),
        (["--backend", "nobody"], "unknown backend 'nobody'"),
        (["--set", "heads=2"], "write --heads"),
        (["--tune", "--backend", "torch"], "--tune is for the triton backend"),
        (["--json", "nowhere/x.json"], "there is no folder nowhere"),
        (["nobody.spat"], "`nobody.spat` does not exist"),
    ],
)
def test_wrong_calls(options: list[str], message: str):
    result = call("std/local", "-n", 64, *options)
    assert result.exit_code == 2
    assert message in result.output


# ------------------------------------------------------------------ the benchmarks


def test_processes_work_in_turns_and_one_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]):
    assert list(turns.in_turns(turn_jobs.job, ["a", "b", "c"], 60)) == [("a", "A"), ("c", "C")]
    assert "b: failed" in capsys.readouterr().out
    assert list(turns.in_turns(turn_jobs.job, ["a"], -1)) == []


def test_planted_prices_are_found():
    random = np.random.default_rng(0)
    have = random.uniform(1e3, 1e6, (12, len(costs.PRICES)))
    prices = np.array([2.0, 0.5, 0.7, 0.1, 40.0, 600.0, 90.0])
    found, error = costs.fitted([(float(row @ prices), row.tolist()) for row in have])
    assert [*found.values()] == pytest.approx((prices / 2).tolist())
    assert error < 1e-9


def test_amounts_of_a_plan():
    compiled = patternc.compile("pattern p(w: tokens) = { q -> k : 0 <= q - k < w }", heads=2, w=64)
    plan = compiled.plan(256, tile=(32, 32))
    (launch,) = plan.launches
    runs = launch.terms[0].by_query
    tiles, partial = int(runs.count.sum()), int(runs.count[runs.kind == PARTIAL].sum())
    pairs, doubtful = 2 * 1024 * tiles, 2 * 1024 * partial
    assert costs.amounts(plan) == (pairs, doubtful, 0, 0, 0, 0, 512)
    assert costs.amounts(plan, "modulus") == (pairs, doubtful, doubtful, 0, 0, 0, 512)


@pytest.mark.parametrize(("name", "amount"), [("modulus", 1), ("listed", 3), ("terms", 4), ("launches", 5)])
def test_families_have_what_they_are_named_after(name: str, amount: int):
    text, values = costs.FAMILIES[name]
    plan = patternc.compile(text, heads=1, **values[0]).plan(4096, tile=(64, 64))
    assert costs.amounts(plan)[amount] > 0


def test_the_plot_has_a_bar_for_all_that_was_measured():
    rows = [row("a", {"dense": 2.0, "flex": 3.0}), row("b", {"dense": 8.0})]
    figure = report.draw(
        {
            "device": "a GPU", "n": 64, "heads": 2, "head_dim": 16, "dtype": "float32",
            "rows": [json.loads(json.dumps(one, default=vars)) for one in rows],
        }
    )  # fmt: skip
    assert [len(axes.patches) for axes in figure.axes] == [5, 5]
