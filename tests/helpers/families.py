"""Tiny models of many families of transformers, with weights so spread that an untrained model has opinions."""

import torch

from zobench.models.base import silence_libraries

VOCABULARY, WIDTH, LAYERS = 256, 32, 4
#: linear modules that LoRA adapts, by family, where they are not the query and value projections
TARGETS = {
    "gpt_neox": ["query_key_value"], "falcon": ["query_key_value"], "bloom": ["query_key_value"], "mpt": ["Wqkv"],
    "phi3": ["qkv_proj"], "codegen": ["qkv_proj"], "persimmon": ["query_key_value"], "mamba": ["in_proj"],
    "mamba2": ["in_proj"], "deepseek_v3": ["q_proj", "kv_b_proj"], "gpt_bigcode": ["c_attn"],
}  # fmt: skip
_COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 0,
    "pad_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GPT2 = {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 128}
_MIXED = ["sliding_attention", "full_attention"] * 2
_MOE = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
#: name → (class of its configuration, settings, what follows the last layer: its norm is scaled by the spread of logits)
FAMILIES = {
    "llama": ("LlamaConfig", _COMMON),
    "opt": ("OPTConfig", {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": WIDTH, "dropout": 0.0}),
    "opt, projected": ("OPTConfig", {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": 16, "dropout": 0.0}),
    "gpt2": ("GPT2Config", _GPT2),
    "gpt_neox": ("GPTNeoXConfig", _COMMON),
    "mistral": ("MistralConfig", {**_COMMON, "sliding_window": None}),
    "mistral, windows": ("MistralConfig", {**_COMMON, "sliding_window": 8}),
    "mixtral": ("MixtralConfig", {**_COMMON, **_MOE}),
    "qwen2": ("Qwen2Config", _COMMON),
    "qwen2, windows": ("Qwen2Config", {**_COMMON, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
    "qwen3": ("Qwen3Config", {**_COMMON, "head_dim": 8}),
    "gemma2": ("Gemma2Config", {**_COMMON, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}),
    "phi": ("PhiConfig", _COMMON),
    "granite": ("GraniteConfig", {**_COMMON, "logits_scaling": 8.0, "residual_multiplier": 0.5}),
    "gemma": ("GemmaConfig", {**_COMMON, "head_dim": 8}),
    "gemma3_text": ("Gemma3TextConfig", {**_COMMON, "head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8, "layer_types": _MIXED}),
    "cohere": ("CohereConfig", _COMMON),
    "cohere2": ("Cohere2Config", {**_COMMON, "sliding_window": 8, "layer_types": _MIXED}),
    "falcon": ("FalconConfig", {**_COMMON, "new_decoder_architecture": False, "alibi": False}),
    "falcon, alibi": ("FalconConfig", {**_COMMON, "new_decoder_architecture": False, "alibi": True}),
    "bloom": ("BloomConfig", {**_COMMON, "n_head": 4, "n_layer": LAYERS}),
    "mpt": ("MptConfig", {"vocab_size": VOCABULARY, "d_model": WIDTH, "n_heads": 4, "n_layers": LAYERS, "max_seq_len": 128}),
    "stablelm": ("StableLmConfig", _COMMON),
    "olmo": ("OlmoConfig", _COMMON),
    "olmo2": ("Olmo2Config", _COMMON),
    "olmo3": ("Olmo3Config", {**_COMMON, "sliding_window": 8, "layer_types": _MIXED}),
    "starcoder2": ("Starcoder2Config", {**_COMMON, "sliding_window": 8}),
    "phi3": ("Phi3Config", _COMMON),
    "phi3, long": ("Phi3Config", {**_COMMON, "original_max_position_embeddings": 16, "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 16}}),
    "gptj": ("GPTJConfig", {**_GPT2, "rotary_dim": 4}),
    "codegen": ("CodeGenConfig", {**_GPT2, "rotary_dim": 4}),
    "gpt_neo": ("GPTNeoConfig", {**_COMMON, "num_layers": LAYERS, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 8}),
    "gpt_bigcode": ("GPTBigCodeConfig", _GPT2),
    "mamba": ("MambaConfig", {**_COMMON, "state_size": 8}),
    "mamba2": ("Mamba2Config", {**_COMMON, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "recurrent_gemma": ("RecurrentGemmaConfig", {**_COMMON, "lru_width": WIDTH, "attention_window_size": 8, "head_dim": 8}),
    "qwen2_moe": ("Qwen2MoeConfig", {**_COMMON, **_MOE, "shared_expert_intermediate_size": 24}),
    "qwen3_moe": ("Qwen3MoeConfig", {**_COMMON, **_MOE, "head_dim": 8}),
    "qwen3_next": ("Qwen3NextConfig", {**_COMMON, **_MOE, "head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}),
    "deepseek_v3": ("DeepseekV3Config", {**_COMMON, "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "n_group": 2, "topk_group": 1, "q_lora_rank": None, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1}),
    "gpt_oss": ("GptOssConfig", {**_COMMON, **_MOE, "head_dim": 8, "sliding_window": 8, "layer_types": _MIXED}),
    "nemotron": ("NemotronConfig", _COMMON),
    "persimmon": ("PersimmonConfig", _COMMON),
    "bamba": ("BambaConfig", {**_COMMON, "attn_layer_indices": [1, 3], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}),
    "jamba": ("JambaConfig", {**_COMMON, **_MOE, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "use_mamba_kernels": False}),
    "zamba2": ("Zamba2Config", {**_COMMON, "num_key_value_heads": 4, "mamba_d_state": 8, "mamba_headdim": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "chunk_size": 8, "use_mamba_kernels": False, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "num_mem_blocks": 1, "adapter_rank": 4}),
    "minicpm3": ("MiniCPM3Config", _COMMON),
    "glm": ("GlmConfig", {**_COMMON, "head_dim": 8}),
    "glm4": ("Glm4Config", {**_COMMON, "head_dim": 8}),
    "exaone4": ("Exaone4Config", {**_COMMON, "sliding_window": 8, "layer_types": _MIXED}),
    "smollm3": ("SmolLM3Config", _COMMON),
    "llama4_text": ("Llama4TextConfig", {**_COMMON, **_MOE, "intermediate_size_mlp": 48, "head_dim": 8, "attention_chunk_size": 16}),
    "granitemoe": ("GraniteMoeConfig", {**_COMMON, **_MOE, "logits_scaling": 8.0}),
    "xglm": ("XGLMConfig", {"vocab_size": VOCABULARY, "d_model": WIDTH, "ffn_dim": 48, "num_layers": LAYERS, "attention_heads": 4, "max_position_embeddings": 128}),
    "biogpt": ("BioGptConfig", {**_COMMON, "hidden_dropout_prob": 0.0}),
    "helium": ("HeliumConfig", {**_COMMON, "head_dim": 8}),
    "ernie4_5": ("Ernie4_5Config", {**_COMMON, "head_dim": 8}),
    "seed_oss": ("SeedOssConfig", {**_COMMON, "head_dim": 8}),
    "hunyuan_v1_dense": ("HunYuanDenseV1Config", {**_COMMON, "head_dim": 8}),
    "lfm2": ("Lfm2Config", {**_COMMON, "layer_types": ["conv", "full_attention"] * 2}),
    "arcee": ("ArceeConfig", _COMMON),
    "dbrx": ("DbrxConfig", {"vocab_size": VOCABULARY, "d_model": WIDTH, "n_heads": 4, "n_layers": LAYERS, "max_seq_len": 128, "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": WIDTH}, "attn_config": {"kv_n_heads": 2}}),
    "rwkv": ("RwkvConfig", {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "context_length": 128}),
    "bert": ("BertConfig", _COMMON),
    "bert, decoder": ("BertConfig", {**_COMMON, "is_decoder": True}),
}  # fmt: skip


def build(name, seed=1, dtype=torch.float32):
    """A model of a family, in evaluation mode, with sdpa attention where transformers has it."""
    silence_libraries()
    import transformers

    kind, settings = FAMILIES[name]
    torch.manual_seed(seed)
    config = getattr(transformers, kind)(**settings)
    try:
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    except ValueError:
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    return spread(model.to(dtype).eval())


@torch.no_grad()
def spread(model):
    """Scale a random model's matrices and its last norm, so that log-probabilities differ by some nats; biases of the head too."""
    head = model.get_output_embeddings()
    for name, param in model.named_parameters():
        if param.dim() > 1 and param is not head.weight and "embed" not in name and "wte" not in name:
            param.mul_(4)
    ids = torch.randint(4, VOCABULARY, (4, 24), generator=torch.Generator().manual_seed(0))
    size = float(model(input_ids=ids, use_cache=False).logits.std())
    if size < 2.0:
        head.weight.mul_(min(8.0, 2.0 / size))
    if getattr(head, "bias", None) is not None:
        head.bias.copy_(torch.linspace(-2, 2, len(head.bias)))
    return model
