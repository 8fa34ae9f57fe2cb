"""Parameters, buffers and parts of every layer have PyTorch's names, shapes and order: optimisers number states by it.

Every class of `torch.nn` that there is here has its constructor's arguments in one table.
"""

import inspect

import pytest
import torch

from treadle import nn

NO_PARTS = [  # classes without parameters, by their constructor's arguments
    ((), "AlphaDropout BCELoss BCEWithLogitsLoss CELU CTCLoss CosineEmbeddingLoss CosineSimilarity CrossEntropyLoss"),
    ((), "Dropout Dropout1d Dropout2d Dropout3d ELU FeatureAlphaDropout Flatten GELU GLU GaussianNLLLoss Hardshrink"),
    ((), "Hardsigmoid Hardswish Hardtanh HingeEmbeddingLoss HuberLoss Identity KLDivLoss L1Loss LeakyReLU LogSigmoid"),
    ((), "LogSoftmax MSELoss MarginRankingLoss Mish MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss"),
    ((), "NLLLoss PairwiseDistance PoissonNLLLoss RReLU ReLU ReLU6 SELU SiLU Sigmoid SmoothL1Loss SoftMarginLoss"),
    ((), "Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink TripletMarginLoss"),
    ((), "Module"),
    ((2,), "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d"),
    ((2,), "AdaptiveMaxPool3d AvgPool1d AvgPool2d AvgPool3d ChannelShuffle CircularPad1d CircularPad2d CircularPad3d"),
    ((2,), "LocalResponseNorm MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d PixelShuffle"),
    ((2,), "PixelUnshuffle ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d"),
    ((2,), "ReplicationPad3d Unfold Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d"),
    ((2, 3), "ConstantPad1d ConstantPad2d ConstantPad3d Fold FractionalMaxPool2d FractionalMaxPool3d LPPool1d"),
    ((2, 3), "LPPool2d LPPool3d Threshold"),
    ((1, (2, 3)), "Unflatten"),
]
RECURRENT = [
    ((3, 4), {}),
    ((3, 4), {"num_layers": 2, "bidirectional": True}),
    ((3, 4), {"num_layers": 2, "bias": False}),
]
NORM = [((4,), {}), ((4,), {"affine": False}), ((4,), {"track_running_stats": False}), ((4,), {"momentum": None})]
INSTANCE_NORM = [((4,), {}), ((4,), {"affine": True}), ((4,), {"affine": True, "track_running_stats": True})]
CONV = [((4, 6, 3), {}), ((4, 6, 3), {"bias": False, "groups": 2})]
LAZY_CONV = [((6, 3), {})]
ATTENTION = [
    ((8, 2), {}),
    ((8, 2), {"bias": False}),
    ((8, 2), {"add_bias_kv": True}),
    ((8, 2), {"kdim": 3, "vdim": 5}),
    ((8, 2), {"kdim": 3, "vdim": 5, "add_bias_kv": True}),
]
TRANSFORMER = [((8, 2, 16), {}), ((8, 2, 16), {"bias": False, "norm_first": True})]
PARTS = {
    "AdaptiveLogSoftmaxWithLoss": [((32, 20, [5, 10]), {}), ((32, 20, [5, 10]), {"head_bias": True})],
    **{f"BatchNorm{n}d": NORM for n in (1, 2, 3)},
    "Bilinear": [((2, 3, 4), {}), ((2, 3, 4), {"bias": False})],
    **{f"{kind}{n}d": CONV for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
    "Embedding": [((5, 3), {}), ((5, 3), {"padding_idx": 0})],
    "EmbeddingBag": [((5, 3), {})],
    "GRU": RECURRENT,
    "GRUCell": [((3, 4), {}), ((3, 4), {"bias": False})],
    "GroupNorm": [((2, 4), {}), ((2, 4), {"affine": False})],
    **{f"InstanceNorm{n}d": INSTANCE_NORM for n in (1, 2, 3)},
    "LSTM": [*RECURRENT, ((3, 4), {"proj_size": 2, "num_layers": 2, "bidirectional": True})],
    "LSTMCell": [((3, 4), {}), ((3, 4), {"bias": False})],
    "LayerNorm": [((4,), {}), ((4,), {"bias": False}), ((4,), {"elementwise_affine": False})],
    **{f"LazyBatchNorm{n}d": [((), {})] for n in (1, 2, 3)},
    **{f"Lazy{kind}{n}d": LAZY_CONV for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
    **{f"LazyInstanceNorm{n}d": [((), {}), ((), {"affine": True})] for n in (1, 2, 3)},
    "LazyLinear": [((4,), {}), ((4,), {"bias": False})],
    "Linear": [((3, 4), {}), ((3, 4), {"bias": False})],
    "LinearCrossEntropyLoss": [((3, 4), {}), ((3, 4), {"bias": True})],
    "MultiheadAttention": ATTENTION,
    "PReLU": [((), {}), ((3,), {})],
    "RMSNorm": [((4,), {}), ((4,), {"elementwise_affine": False})],
    "RNN": [*RECURRENT, ((3, 4), {"nonlinearity": "relu"})],
    "RNNCell": [((3, 4), {})],
    "Transformer": [((8, 2, 2, 2, 16), {}), ((8, 2, 1, 1, 16), {"bias": False})],
    "TransformerDecoderLayer": TRANSFORMER,
    "TransformerEncoderLayer": TRANSFORMER,
    "TripletMarginWithDistanceLoss": [((), {"distance_function": max})],
}
CASES = [
    *(pytest.param(name, args, {}, id=name) for args, names in NO_PARTS for name in names.split()),
    *(pytest.param(name, *case, id=f"{name}-{i}") for name, cases in PARTS.items() for i, case in enumerate(cases)),
]
OF_MODULES = {  # made of what they are given
    "ModuleDict": lambda nn: nn.ModuleDict({"z": nn.Linear(2, 3), "a": nn.ReLU()}),
    "ModuleList": lambda nn: nn.ModuleList([nn.Linear(2, 3), nn.BatchNorm1d(3)]),
    "ParameterDict": lambda nn: nn.ParameterDict({"z": nn.Linear(2, 3).weight, "a": nn.Linear(2, 3).bias}),
    "ParameterList": lambda nn: nn.ParameterList([nn.Linear(2, 3).weight, nn.Linear(2, 3).bias]),
    "Sequential": lambda nn: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1)),
    "TransformerDecoder": lambda nn: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2, nn.LayerNorm(8)),
    "TransformerEncoder": lambda nn: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16), 2, nn.LayerNorm(8), False
    ),
}


def same(ours, theirs):
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    assert [name for name, _ in ours.named_buffers()] == [name for name, _ in theirs.named_buffers()]
    assert list(ours.state_dict(keep_vars=True)) == list(theirs.state_dict(keep_vars=True))
    assert [name for name, _ in ours.named_modules()] == [name for name, _ in theirs.named_modules()]
    if "Lazy" not in type(ours).__name__:
        assert [list(p.shape) for p in ours.parameters()] == [list(p.shape) for p in theirs.parameters()]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize(("name", "args", "kwargs"), CASES)
def test_a_layer_has_pytorchs_names_in_pytorchs_order(name, args, kwargs):
    same(getattr(nn, name)(*args, **kwargs), getattr(torch.nn, name)(*args, **kwargs))


@pytest.mark.parametrize("name", OF_MODULES)
def test_a_container_has_pytorchs_names_in_pytorchs_order(name):
    same(OF_MODULES[name](nn), OF_MODULES[name](torch.nn))


def test_every_class_that_pytorch_has_too_is_compared():
    def modules(package, base):
        found = inspect.getmembers(package, lambda x: inspect.isclass(x) and issubclass(x, base))
        return {name for name, _ in found}

    shared = modules(nn, nn.Module) & modules(torch.nn, torch.nn.Module)
    abstract = {"RNNBase", "RNNCellBase"}  # constructed as their subclasses here
    assert shared - abstract == {case.values[0] for case in CASES} | OF_MODULES.keys()
