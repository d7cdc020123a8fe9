"""Every decoder class of transformers, built from a tiny config.

The sizes of a config class are found by their names; what a class needs beyond them stands in ``MORE``.
"""

import inspect

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

V = 40
SIZES = {
    V: "vocab_size",
    32: "hidden_size n_embd d_model dim n_embed embed_dim model_dim attention_hidden_size emb_dim "
    "embedding_size word_embed_proj_dim lru_width decoder_hidden_size",
    2: "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers encoder_layers "
    "num_key_value_heads num_experts_per_tok moe_k moe_top_k top_k_experts experts_per_token num_blocks",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads "
    "num_experts num_local_experts n_routed_experts moe_num_experts linear_num_value_heads "
    "linear_num_key_heads linear_num_heads mamba_n_heads mamba_num_heads",
    8: "head_dim v_head_dim qk_nope_head_dim qk_rope_head_dim linear_key_head_dim linear_value_head_dim "
    "kv_channels mamba_d_head",
    16: "q_lora_rank kv_lora_rank moe_intermediate_size shared_expert_intermediate_size state_size "
    "expert_ffn_hidden_size mamba_d_state",
    48: "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner ffn_hidden_size d_ff",
    64: "max_position_embeddings n_positions max_seq_len max_seq_length seq_length n_ctx context_length",
    0.3: "initializer_range init_std",
    1: "bos_token_id",
    3: "eos_token_id decoder_start_token_id",
}
BY_NAME = {name: size for size, names in SIZES.items() for name in names.split()}
BY_NAME |= {"pad_token_id": 2, "rotary_dim": 4, "is_decoder": True}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2}
MORE = {
    "bamba": MAMBA | {"num_hidden_layers": 3, "attn_layer_indices": [1]},
    "bailing_hybrid": {"num_hidden_layers": 4},
    "cpmant": {"dim_ff": 48, "dim_head": 8},
    "falcon_h1": MAMBA | {"mamba_d_ssm": 64},
    "granitemoehybrid": MAMBA | {"layer_types": ["mamba", "attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm3": {"num_hidden_layers": 4},
    "mamba2": {"num_heads": 8},
    "qwen3_5_moe_text": {"num_hidden_layers": 4},
    "qwen3_5_text": {"num_hidden_layers": 4},
    "qwen3_next": {"num_hidden_layers": 4},
    "recurrent_gemma": {"num_hidden_layers": 3, "attention_window_size": 4},
    "roc_bert": {"enable_pronunciation": False, "enable_shape": False},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}
LARGEST = 2_000_000  # parameters


def model_types() -> dict[str, str]:
    """Model type -> class name, of the classes that decode."""
    return dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny(model_type: str, name: str, seed: int = 0):
    """A model of the class, in float32 and evaluation mode; raises what transformers raises."""
    kind = CONFIG_MAPPING[model_type]
    known = (set(inspect.signature(kind.__init__).parameters) | set(dir(kind()))) - set(kind.attribute_map)
    computed = {name for name in known if isinstance(getattr(kind, name, None), property)}
    sizes = {name: size for name, size in BY_NAME.items() if name in known - computed}
    if "kv_lora_rank" in known:  # latent attention has a key for each head
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    config, decoder = kind(**{**sizes, **MORE.get(model_type, {})}), getattr(transformers, name)
    with torch.device("meta"):
        size = sum(p.numel() for p in decoder(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.0f} million parameters: its sizes have other names")
    torch.manual_seed(seed)
    return decoder(config).eval()
