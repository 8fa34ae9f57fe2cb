"""Modules: what they find in their attributes, their names, state dicts, modes, hooks and printing."""

import copy
import pickle

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import CheckpointError, DTypeError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(td.ones((2,)))
        self.body = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
        self.steps = nn.Buffer(td.asarray(0))
        self.scratch = nn.Buffer(td.asarray(0.0), persistent=False)
        self.heads = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)])

    def forward(self, x):
        x = self.body(x) * self.scale
        return self.heads[0](x) + self.heads[-1](x)


def test_names_are_pytorchs():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == [
        "scale", "body.0.weight", "body.0.bias", "body.2.weight", "heads.0.weight", "heads.0.bias", "heads.1.weight",
        "heads.1.bias",
    ]  # fmt: skip
    assert [name for name, _ in net.named_buffers()] == ["steps", "scratch"]
    assert [name for name, _ in net.named_modules()][:3] == ["", "body", "body.0"]
    assert "scratch" not in net.state_dict()
    assert "steps" in net.state_dict()
    assert len(net.heads) == 2
    assert net(td.ones((4, 2))).shape == (4, 1)


def test_state_dict_goes_round():
    a, b = Net(), Net()
    b.load_state_dict({name: np.asarray(value) for name, value in a.state_dict().items()})
    x = td.asarray(np.random.default_rng(0).standard_normal((3, 2), np.float32))
    np.testing.assert_array_equal(np.asarray(a(x)), np.asarray(b(x)))


def test_a_state_dict_of_another_model_is_refused_and_changes_nothing():
    net = Net()
    before = np.asarray(net.scale)
    state = dict(net.state_dict())
    state["extra"] = state.pop("scale") * 2
    with pytest.raises(
        CheckpointError, match=r"missing: scale; not in the model: extra\. Make the model with the settings"
    ):
        net.load_state_dict(state)
    found = net.load_state_dict(state, strict=False)
    assert found.missing_keys == ["scale"]
    assert found.unexpected_keys == ["extra"]
    wrong = {**net.state_dict(), "scale": np.zeros(3, np.float32)}
    with pytest.raises(CheckpointError, match=r"other shapes: scale is \[3\], the model's \[2\]"):
        net.load_state_dict(wrong, strict=False)
    np.testing.assert_array_equal(np.asarray(net.scale), before)


def test_tied_parameters_count_once_and_have_every_name():
    net = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    net["b"].weight = net["a"].weight
    assert [name for name, _ in net.named_parameters()] == ["a.weight"]
    assert list(net.state_dict()) == ["a.weight", "b.weight"]


def test_assigning_a_value_to_a_parameter_is_refused():
    net = Net()
    with pytest.raises(
        DTypeError, match=r"Net\.scale is a Parameter, and a Tensor was assigned .* `\.scale\.value = \.\.\.`"
    ):
        net.scale = td.zeros((2,))
    net.scale = nn.Parameter(td.zeros((2,)))
    assert float(net.scale.value.sum()) == 0


def test_train_and_eval_reach_everything():
    net = Net()
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train().heads[1].training


def test_a_compiled_function_depends_on_the_mode():
    drop = nn.Dropout(0.5)

    @td.compile
    def run(x):
        return drop(x)

    x = td.ones((64,))
    assert (np.asarray(run(x)) == 0).any()
    drop.eval()
    np.testing.assert_array_equal(np.asarray(run(x)), 1)
    assert run.num_compiles == 2
    assert "training was True and is False" in run.reasons[0]
    drop.train()
    assert (np.asarray(run(x)) == 0).any()
    assert run.num_compiles == 2


def test_apply_to_and_zero_grad():
    net = Net()
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen[-1] == "Net"
    net(td.ones((1, 2))).sum().backward()
    assert net.scale.grad is not None
    net.zero_grad()
    assert net.scale.grad is None
    held = net.scale
    net.to("bfloat16")
    assert net.scale is held
    assert held.dtype.name == "bfloat16"
    assert held.requires_grad
    assert net.steps.dtype.name == "int64"
    with pytest.raises(DTypeError, match=r"to: parameters cannot be int8\. Allowed: floating-point"):
        net.to("int8")


def test_hooks_see_and_change_results():
    layer = nn.Identity()
    handle = layer.register_forward_hook(lambda module, args, result: result + args[0])
    assert float(layer(td.asarray(2.0))) == 4
    handle.remove()
    handle.remove()
    assert float(layer(td.asarray(2.0))) == 2


def test_nodes_know_the_module_that_made_them():
    net = Net()
    out = net.heads[1](td.ones((1, 2)))
    node, paths = out.node, set()
    stack = [node]
    while stack:
        n = stack.pop()
        if n.source:
            paths.add(n.source.module)
        stack.extend(n.args)
    assert "heads.1" in paths


def test_repr_is_pytorchs():
    torch = pytest.importorskip("torch")
    ours = nn.Sequential(
        nn.Linear(2, 3), nn.Sequential(nn.GELU(), nn.LayerNorm(3)), nn.Dropout(0.1), nn.Embedding(4, 5)
    )
    t = torch.nn
    theirs = t.Sequential(t.Linear(2, 3), t.Sequential(t.GELU(), t.LayerNorm(3)), t.Dropout(0.1), t.Embedding(4, 5))
    assert repr(ours).replace("Dropout(p=0.1)", "Dropout(p=0.1, inplace=False)") == repr(theirs)


def test_files(tmp_path):
    net = Net()
    nn.save(net.state_dict(), tmp_path / "net.safetensors")
    other = Net()
    other.load_state_dict(nn.load(tmp_path / "net.safetensors"))
    np.testing.assert_array_equal(np.asarray(other.scale), np.asarray(net.scale))
    (tmp_path / "short").write_bytes((tmp_path / "net.safetensors").read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="is no safetensors file, or cut short"):
        nn.load(tmp_path / "short")


def test_a_pytorch_state_dict_loads(tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Embedding(2, 4))
    ours = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Embedding(2, 4))
    ours.load_state_dict(theirs.state_dict())
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(np.asarray(ours.state_dict()[name]), value.numpy())
    # What was loaded is a copy: PyTorch's tensors change in place.
    with torch.no_grad():
        theirs[0].weight.zero_()
    assert np.asarray(ours[0].weight).any()
    theirs.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in ours.state_dict().items()})


def test_deepcopy_and_pickle_keep_values_ties_and_modes():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Dropout(0.5), nn.Linear(4, 5, bias=False))
    model[2].weight = model[0].weight
    model.register_buffer("steps", td.asarray(3), persistent=False)
    model[0].weight.requires_grad = False
    model.eval()
    model[0].weight.grad = td.ones((5, 4))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied[0].weight is copied[2].weight
        assert copied[0].weight is not model[0].weight
        assert isinstance(copied[0].weight, nn.Parameter)
        assert not copied[0].weight.requires_grad
        assert copied[0].weight.grad is None
        assert isinstance(copied.steps, nn.Buffer)
        assert not copied.steps.persistent
        assert not copied.training
        assert list(copied.state_dict()) == list(model.state_dict())
        before = np.array(model[0].weight)
        np.testing.assert_array_equal(copied[0].weight.numpy(), before)
        copied[0].weight.value = td.zeros((5, 4))
        np.testing.assert_array_equal(model[0].weight.numpy(), before)


@pytest.mark.parametrize("persistent", [True, False])
def test_register_buffer(persistent):
    module = nn.Module()
    module.register_buffer("mask", td.ones((2, 2)), persistent=persistent)
    module.register_buffer("nothing", None)
    assert isinstance(module.mask, nn.Buffer)
    assert module.nothing is None
    assert ("mask" in module.state_dict()) is persistent


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: nn.Sequential(3), td.ConfigError, "Sequential: 3 is no module"),
        (lambda: nn.ModuleList([nn.ReLU(), "x"]), td.ConfigError, "ModuleList: 'x' is no module"),
        (lambda: nn.ModuleList().append(None), td.ConfigError, "ModuleList: None is no module"),
        (lambda: nn.ModuleDict({"a": 1}), td.ConfigError, "ModuleDict: 1 is no module"),
        (lambda: nn.Linear("3", 2), td.ConfigError, "in_features is '3'. It must be a whole number"),
        (lambda: nn.Linear(3, 2.5), td.ConfigError, "out_features is 2.5"),
        (lambda: nn.Linear(2, 2).load_state_dict(3), td.CheckpointError, "a int is no state dict"),
        (lambda: nn.Linear(2, 2).to("cuda"), td.ConfigError, "no device 'cuda'. Allowed: 'cpu'"),
        (lambda: nn.Linear(2, 2).to("cuda:0"), td.ConfigError, "no device 'cuda:0'"),
        (lambda: nn.load("/nowhere/x"), td.CheckpointError, "/nowhere/x does not exist"),
        (lambda: nn.save({"a": td.ones(2)}, "/nowhere/x"), td.CheckpointError, "/nowhere/x cannot be written"),
        (lambda: nn.Linear(2, 2).cuda(), AttributeError, "everything is on the CPU"),
        (lambda: nn.Linear(2, 2).compile(), AttributeError, r"PyTorch's compile is here: td.compile\(module\)"),
        (lambda: nn.Linear(2, 2).nonsense, AttributeError, "'Linear' object has no attribute 'nonsense'$"),
    ],
)
def test_misuse_is_said_clearly(act, error, message):
    with pytest.raises(error, match=message):
        act()


def test_the_only_device_is_accepted():
    module = nn.Linear(2, 2)
    assert module.to("cpu") is module
    assert module.weight.dtype is td.float32


def test_a_module_or_parameter_that_is_replaced_compiles_anew():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    f = td.compile(model)
    x = np.ones((1, 3), np.float32)
    f(x)
    setattr(model, "1", nn.Linear(3, 2))
    np.testing.assert_allclose(f(x).numpy(), model(x).numpy(), rtol=1e-6)
    model[0].weight = nn.Parameter(td.zeros((3, 3)))
    np.testing.assert_allclose(f(x).numpy(), model(x).numpy(), rtol=1e-6)
    model[0].weight = model[0].weight
    model[0].note = "not looked at"
    f(x)
    assert f.num_compiles == 3


def test_walks_are_pytorchs():
    torch = pytest.importorskip("torch")

    def build(of):
        net = of.Sequential(of.Linear(2, 2), of.BatchNorm1d(2), of.Sequential(of.Linear(2, 2, bias=False)))
        net.extra = net[0]  # the same layer under another name
        net.own = of.Parameter(td.zeros((1,)) if of is nn else torch.zeros(1))
        return net

    ours, theirs = build(nn), build(torch.nn)
    for walk in ("named_parameters", "named_buffers"):
        for args in ((), ("p",), ("p", False), ("", True, False)):
            found = {name for name, _ in getattr(ours, walk)(*args)}
            assert found == {name for name, _ in getattr(theirs, walk)(*args)}, (walk, args)
    for args in ((), (None, "p"), (None, "", False)):
        assert {n for n, _ in ours.named_modules(*args)} == {n for n, _ in theirs.named_modules(*args)}
    assert len(list(ours.modules(False))) == len(list(ours.modules())) + 1
    assert [p is ours.own for p in ours.parameters(False)] == [True]
    assert len(list(ours.buffers(recurse=False))) == 0
    assert set(ours.state_dict(prefix="a.")) == set(theirs.state_dict(prefix="a."))


def test_gradients_are_cleared_or_zero():
    layer = nn.Linear(2, 1)
    layer(td.ones((1, 2))).sum().backward()
    layer.zero_grad(set_to_none=False)
    np.testing.assert_array_equal(np.asarray(layer.weight.grad), 0)
    layer.zero_grad()
    assert layer.weight.grad is None


def test_an_attribute_that_is_deleted_is_noticed():
    net = Net()

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(td.ones((2,)))
            self.net = net

        def forward(self, x):
            return x + self.shift if "shift" in self.__dict__ else x

    outer = Outer()
    run = td.compile(outer)
    np.testing.assert_array_equal(np.asarray(run(td.ones((2,)))), 2)
    del outer.shift
    np.testing.assert_array_equal(np.asarray(run(td.ones((2,)))), 1)
    assert run.num_compiles == 2


def test_parts_by_path_are_pytorchs():
    net = Net()
    assert net.get_submodule("") is net
    assert net.get_submodule("body.2") is net.body[2]
    assert net.get_parameter("body.0.bias") is net.body[0].bias
    assert net.get_buffer("steps") is net.steps
    for act, message in [
        (lambda: net.get_submodule("body.9"), "Sequential has no module '9'. Allowed: 0, 1, 2"),
        (lambda: net.get_parameter("body.1.weight"), "ReLU has no parameter 'weight'. Allowed: it has none"),
        (lambda: net.get_buffer("scale"), "Net has no buffer 'scale'. Allowed: steps, scratch"),
        (lambda: net.set_submodule("body.9", nn.ReLU(), strict=True), "Sequential has no module '9'"),
    ]:
        with pytest.raises(AttributeError, match=message):
            act()


def test_parts_are_set_by_name_and_path():
    net = Net()
    net.set_submodule("body.1", nn.Tanh())
    net.set_submodule("body.more", nn.Identity())
    net.add_module("extra", nn.Linear(2, 2))
    net.register_module("none", None)
    net.register_parameter("shift", nn.Parameter(td.zeros((2,))))
    net.register_parameter("shift", None)
    net.register_buffer("steps", td.asarray(3))
    assert isinstance(net.body[1], nn.Tanh)
    assert isinstance(net.body[3], nn.Identity)
    assert "extra.weight" in net.state_dict()
    assert net.none is net.shift is None
    assert int(net.steps) == 3


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda net: net.add_module("a.b", nn.ReLU()), td.ConfigError, "'a.b' cannot name a module"),
        (lambda net: net.add_module("", nn.ReLU()), td.ConfigError, "'' cannot name a module"),
        (lambda net: net.add_module("forward", nn.ReLU()), td.ConfigError, "'forward' is taken by something else"),
        (lambda net: net.add_module("scale", nn.ReLU()), td.ConfigError, "'scale' is taken by something else"),
        (lambda net: net.add_module("x", 3), DTypeError, "'x' is a int. It must be a Module, or None"),
        (lambda net: net.register_parameter("x", td.ones(2)), DTypeError, "'x' is a Tensor. It must be a Parameter"),
        (lambda net: net.register_buffer("body", td.ones(2)), td.ConfigError, "'body' is taken by something else"),
    ],
)
def test_names_and_parts_that_do_not_fit(act, error, message):
    with pytest.raises(error, match=message):
        act(Net())


def test_conversions_have_pytorchs_names():
    layer = nn.Linear(2, 2)
    held = layer.weight
    for act, dtype in [
        (layer.half, "float16"),
        (layer.double, "float64"),
        (layer.bfloat16, "bfloat16"),
        (layer.float, "float32"),
        (lambda: layer.type(td.float64), "float64"),
        (lambda: layer.to("cpu", td.float32), "float32"),
        (lambda: layer.to(td.zeros((1,), dtype="float64")), "float64"),
        (lambda: layer.to(device="cpu", dtype=td.float16, non_blocking=True), "float16"),
        (layer.cpu, "float16"),
        (lambda: layer.to_empty(device="cpu"), "float16"),
    ]:
        assert act() is layer
        assert layer.weight is held
        assert held.dtype.name == dtype
