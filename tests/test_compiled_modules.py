"""Modules inside torch's machinery: graphs, exports, automatic casts, sharding, checkpoints, functional calls."""

import copy
import gc
import pickle

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import distributed
from torch._dynamo.backends.debugging import aot_eager
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing import spawn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

import patternc
from patternc.nn import MultiheadAttention, PatternAttention, ProgressiveSparsity

N, HEADS, DIM = 30, 4, 8
COMPILED = {"fullgraph": True, "backend": "aot_eager"}
HUBS = "pattern hubs(w: tokens = 4, is_hub: bool[batch, n]) = { q -> k : abs(q - k) <= w or is_hub[k] }"


@pytest.fixture(autouse=True)
def _fresh():
    torch.compiler.reset()
    torch.manual_seed(0)


def qkv(n=N, kv_heads=2, dtype=torch.float32):
    return [torch.randn(2, h, n, DIM, dtype=dtype, requires_grad=True) for h in (HEADS, kv_heads, kv_heads)]


def results(function, *inputs, seed=1, **options):
    """Output and gradients."""
    torch.manual_seed(seed)
    out = function(*inputs, **options)
    out = out[0] if isinstance(out, tuple) else out
    weight = torch.linspace(-1, 1, out.shape[-1], dtype=out.dtype)
    return [out, *torch.autograd.grad((out * weight).sum(), inputs)]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


# ------------------------------------------------------------------ torch.compile


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_module_is_one_graph(dropout):
    module = PatternAttention("std/local", heads=HEADS, kv_heads=2, window=7, dropout=dropout)
    inputs = qkv()
    compiled = torch.compile(module, **COMPILED)
    expected = results(module, *inputs)
    for _ in range(2):
        assert_same(results(compiled, *inputs), expected)
    assert torch.equal(results(compiled, *inputs, seed=2)[0], expected[0]) == (dropout == 0)


def test_it_is_one_operator_of_the_graph():
    module = PatternAttention("std/local", heads=HEADS, kv_heads=2, window=7)
    seen = []

    def keep(graph, inputs):
        seen.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph

    torch.compile(lambda q, k, v: module(q * 2, k, v).sin(), fullgraph=True, backend=keep)(*qkv())
    assert len(seen) == 1
    assert sum("patternc.attention" in name for name in seen[0]) == 1


def test_multihead_attention_is_one_graph_with_its_masks():
    module = MultiheadAttention(32, HEADS, batch_first=True, pattern=HUBS, w=3)
    x = torch.randn(2, N, 32, requires_grad=True)
    hubs = (torch.arange(N) % 11 == 0).expand(2, N)
    padding = torch.arange(N) >= torch.tensor([[20], [N]])

    def call(x):
        out, _ = module(x, x, x, key_padding_mask=padding, need_weights=False, is_causal=True, is_hub=hubs)
        return out

    assert_same(results(torch.compile(call, **COMPILED), x), results(call, x))


def test_lengths_change_and_few_queries_are_computed_too():
    module = PatternAttention("std/local", heads=HEADS, kv_heads=2, window=7)
    compiled = torch.compile(module, dynamic=True, **COMPILED)
    for n, n_q in ((N, N), (45, 45), (51, 20), (52, 1)):
        q, k, v = qkv(n)
        assert_same(results(compiled, q[:, :, n - n_q :], k, v), results(module, q[:, :, n - n_q :], k, v))


def test_scales_change():
    """From the second value on the scale is a symbol."""
    module = PatternAttention("std/local", heads=HEADS, kv_heads=2, window=7)
    compiled = torch.compile(lambda q, k, v, scale: module(q, k, v, scale=scale), **COMPILED)
    inputs = qkv()
    for scale in (0.3, 0.4, 0.5):
        assert torch.equal(compiled(*inputs, scale), module(*inputs, scale=scale))


@pytest.mark.parametrize("masked", [False, True])
def test_a_compiled_module_follows_its_schedule(masked):
    """More values than torch.compile makes graphs for: one is made before the pattern changes, one after that."""
    module = MultiheadAttention(32, HEADS, batch_first=True, pattern="std/local", window=22)
    padding = (torch.arange(N) >= torch.tensor([[20], [N]])) if masked else None
    x, graphs = torch.randn(2, N, 32, requires_grad=True), []

    def call(x):
        return module(x, x, x, key_padding_mask=padding, need_weights=False)[0]

    def counted(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    compiled = torch.compile(call, fullgraph=True, backend=counted)
    schedule = ProgressiveSparsity(module, start=22, end=2, steps=10)
    for window in range(22, 0, -2):
        assert module.params == {"window": window}
        assert_same(results(compiled, x), results(call, x))
        schedule.step()
    assert len(graphs) == 2


def test_copies_of_a_compiled_module_change_apart():
    module = PatternAttention("std/local", heads=HEADS, kv_heads=2, window=7)
    other, inputs = copy.deepcopy(module), qkv()
    pair = torch.compile(lambda q, k, v: (module(q, k, v), other(q, k, v)), **COMPILED)
    for first, second in ((7, 7), (3, 7), (3, 9), (9, 9), (9, 5)):
        module.set_params(window=first)
        other.set_params(window=second)
        for found, window in zip(pair(*inputs), (first, second), strict=True):
            expected = patternc.compile("std/local", heads=HEADS, kv_heads=2, window=window)(*inputs)
            assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_operator_keeps_its_promises(dtype):
    compiled = patternc.compile(HUBS, heads=HEADS, kv_heads=2, backend="torch")
    hubs = (torch.arange(N) % 11 == 0).expand(2, N).contiguous()
    compiled(*qkv(dtype=dtype), is_hub=hubs)
    key = compiled._artifact("torch")._executor.key
    for seed, p in ((None, 0.0), (torch.tensor(3), 0.3)):
        arguments = (*qkv(dtype=dtype), [hubs], key, 0.3, p, seed)
        torch.library.opcheck(torch.ops.patternc.attention.default, arguments)


# ------------------------------------------------------------------ torch.export


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_module_takes_other_lengths(strict, tmp_path):
    module = PatternAttention("std/local", heads=HEADS, kv_heads=2, window=7).eval()
    q, k, v = (t.detach() for t in qkv())
    n = torch.export.Dim("n", min=2, max=4096)
    exported = torch.export.export(module, (q, k, v), dynamic_shapes=[{2: n}] * 3, strict=strict)
    torch.export.save(exported, tmp_path / "attention.pt2")
    loaded = torch.export.load(tmp_path / "attention.pt2").module()
    for length in (N, 77):
        inputs = [t.detach() for t in qkv(length)]
        torch.testing.assert_close(loaded(*inputs), module(*inputs))


def test_an_export_needs_its_pattern():
    module = PatternAttention("pattern own(w: tokens) = { q -> k : abs(q - k) < w }", heads=HEADS, kv_heads=2, w=5)
    inputs = tuple(t.detach() for t in qkv())
    exported = torch.export.export(module.eval(), inputs).module()
    expected = module(*inputs)
    del module
    gc.collect()
    with pytest.raises(RuntimeError, match=r"the attention 'torch own .* is not there any more"):
        exported(*inputs)
    again = PatternAttention("pattern own(w: tokens) = { q -> k : abs(q - k) < w }", heads=HEADS, kv_heads=2, w=5)
    again(*inputs)
    assert torch.equal(exported(*inputs), expected)


# ------------------------------------------------------------------ automatic casts, checkpoints


def test_inputs_of_several_dtypes_under_autocast():
    module = PatternAttention("std/local", heads=HEADS, kv_heads=2, window=7)
    q, k, v = qkv()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = module(q, k.bfloat16(), v)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, module(*(t.bfloat16() for t in (q, k, v))))
    with pytest.raises(TypeError, match="must have one dtype"):
        module(q, k.bfloat16(), v)


@pytest.mark.parametrize("compiled", [False, True])
def test_training_under_autocast_and_checkpoints(compiled):
    module = MultiheadAttention(32, HEADS, batch_first=True, pattern="std/local", window=7, dropout=0.3)
    x = torch.randn(2, N, 32, requires_grad=True)

    def call(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return module(x, x, x, need_weights=False)[0]

    def kept(x):
        return checkpoint(call, x, use_reentrant=False)

    assert_same(results(torch.compile(kept, **COMPILED) if compiled else kept, x), results(call, x))


# ------------------------------------------------------------------ sharding


def model():
    torch.manual_seed(0)
    layers = [MultiheadAttention(32, HEADS, batch_first=True, pattern="std/local", window=w) for w in (5, 9)]
    return Stack(layers)


class Stack(torch.nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = x + layer(x, x, x, need_weights=False)[0]
        return x


def batch():
    return torch.randn(4, N, 32, generator=torch.Generator().manual_seed(7))


def sharded(rank, folder):
    """One of two processes: gradients on its half of the batch, averaged by FSDP2 and by DDP."""
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    mine, mesh = batch()[rank::2], init_device_mesh("cpu", (2,))
    fsdp = model()
    for layer in fsdp.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(fsdp, mesh=mesh)
    ddp = DistributedDataParallel(model())
    for each in (fsdp, ddp):
        each(mine).square().mean().backward()
    found = [[p.grad.full_tensor() for p in fsdp.parameters()], [p.grad for p in ddp.parameters()]]
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(tmp_path):
    spawn(sharded, args=(str(tmp_path),), nprocs=2)
    whole = model()
    whole(batch()).square().mean().backward()
    for found in torch.load(tmp_path / "gradients.pt"):
        assert_same(found, [p.grad for p in whole.parameters()])


# ------------------------------------------------------------------ weights


def test_safetensors_there_and_back(tmp_path):
    kinds = [
        lambda: MultiheadAttention(32, HEADS, pattern="std/local", window=7, add_bias_kv=True),
        lambda: MultiheadAttention(32, HEADS, pattern="std/local", window=7, kdim=16, vdim=24),
        lambda: PatternAttention("std/local", heads=HEADS, window=7),
        lambda: patternc.compile("std/local", heads=HEADS, window=7).module(embed_dim=32),
    ]
    for kind in kinds:
        one, other = kind(), kind()
        save_model(one, str(tmp_path / "weights.safetensors"))
        assert load_model(other, str(tmp_path / "weights.safetensors")) == (set(), [])
        assert one.state_dict().keys() == other.state_dict().keys()
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_shared_weights_stay_shared(tmp_path):
    stack = model()
    stack.layers[1].in_proj_weight = stack.layers[0].in_proj_weight
    save_model(stack, str(tmp_path / "weights.safetensors"))
    other = model()
    other.layers[1].in_proj_weight = other.layers[0].in_proj_weight
    torch.nn.init.zeros_(other.layers[0].in_proj_weight)
    load_model(other, str(tmp_path / "weights.safetensors"))
    assert torch.equal(other(batch()), stack(batch()))


def test_state_dicts_are_strict():
    module = MultiheadAttention(32, HEADS, pattern="std/local", window=7)
    state = module.state_dict()
    with pytest.raises(RuntimeError, match="Unexpected key"):
        module.load_state_dict({**state, "window": torch.tensor(7)})
    with pytest.raises(RuntimeError, match="Missing key"):
        module.load_state_dict({})
    assert PatternAttention("std/local", heads=HEADS, window=7).load_state_dict({}) == ([], [])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_of_compiled_modules(again):
    module = MultiheadAttention(32, HEADS, batch_first=True, pattern="std/local", window=7)
    x = torch.randn(2, N, 32)
    torch.compile(module, **COMPILED)(x, x, x, need_weights=False)
    assert torch.equal(again(module)(x, x, x)[0], module(x, x, x)[0])


def test_functional_calls_take_other_weights():
    module = MultiheadAttention(32, HEADS, batch_first=True, pattern="std/local", window=7)
    x = torch.randn(2, N, 32)
    doubled = {name: 2 * p.detach() for name, p in module.named_parameters()}
    found, _ = torch.func.functional_call(module, doubled, (x, x, x))
    other = copy.deepcopy(module)
    other.load_state_dict(doubled)
    assert torch.equal(found, other(x, x, x)[0])
    assert not torch.equal(found, module(x, x, x)[0])
