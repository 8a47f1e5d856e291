"""Tiny models of many families of transformers, with weights so spread that an untrained model has opinions."""

import torch

from zobench.models.base import silence_libraries

VOCABULARY, WIDTH, LAYERS = 256, 32, 4
#: the linear modules that LoRA adapts, where they are not the query and value projections
TARGETS = {
    "gpt_neox": ["query_key_value"], "falcon": ["query_key_value"], "bloom": ["query_key_value"], "mpt": ["Wqkv"],
    "phi3": ["qkv_proj"], "codegen": ["qkv_proj"], "persimmon": ["query_key_value"], "mamba": ["in_proj"],
    "mamba2": ["in_proj"], "deepseek_v3": ["q_proj", "kv_b_proj"], "gpt_bigcode": ["c_attn"], "rwkv": ["receptance"],
    "gpt2": ["c_attn"],
}  # fmt: skip
_COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "bos_token_id": 0,
    "pad_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GPT2 = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 128, "bos_token_id": 0, "eos_token_id": 2}
_OPT = {"ffn_dim": 48, "word_embed_proj_dim": WIDTH, "dropout": 0.0}
_HEADS = {"head_dim": 8}
_WINDOWS = {"sliding_window": 8}
_MIXED = {**_WINDOWS, "layer_types": ["sliding_attention", "full_attention"] * 2}
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 16}
_LONG = {"rope_type": "longrope", "rope_theta": 10000.0, **_FACTORS}
_LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
_LATENT = {"kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8}
_ROUTED = {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4}
_BAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
_H1 = {**_BAMBA, "mamba_d_ssm": 64}
_ZAMBA = {"mamba_headdim": 8, "n_mamba_heads": 8, "mamba_ngroups": 1, "chunk_size": 8, "mamba_d_state": 8}
_BLOCKS = {"layers_block_type": ["mamba", "hybrid"] * 2, "num_mem_blocks": 1, "adapter_rank": 4}
_JAMBA = {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "use_mamba_kernels": False}
_SSM = {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}
_MPT = {"d_model": WIDTH, "n_heads": 4, "n_layers": LAYERS, "max_seq_len": 128}
_XGLM = {"d_model": WIDTH, "ffn_dim": 48, "num_layers": LAYERS, "attention_heads": 4}
_NEO = {"num_layers": LAYERS, "num_heads": 4, "attention_types": [[["global", "local"], 2]], "window_size": 8}
_QWEN = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}
_GEMMA = {**_HEADS, **_WINDOWS, "query_pre_attn_scalar": 8}

#: the families that every change is held to: name → class of the configuration, and its settings beside the common ones
LISTED = {
    "llama": ("Llama", {}),
    "opt": ("OPT", _OPT),
    "opt, projected": ("OPT", {**_OPT, "word_embed_proj_dim": 16}),
    "gpt2": ("GPT2", _GPT2),
    "gpt_neox": ("GPTNeoX", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral, windows": ("Mistral", _WINDOWS),
    "mixtral": ("Mixtral", _EXPERTS),
    "qwen2": ("Qwen2", {}),
    "qwen2, windows": ("Qwen2", _QWEN),
    "qwen3": ("Qwen3", _HEADS),
    "gemma2": ("Gemma2", _GEMMA),
    "phi": ("Phi", {}),
    "granite": ("Granite", {"logits_scaling": 8.0, "residual_multiplier": 0.5}),
}
#: what else zobench is tried with
OTHERS = {
    "arcee": ("Arcee", {}),
    "bamba": ("Bamba", {**_BAMBA, "attn_layer_indices": [1, 3]}),
    "bert, as a decoder": ("Bert", {"is_decoder": True}),
    "bert, as it is": ("Bert", {}),
    "biogpt": ("BioGpt", {"hidden_dropout_prob": 0.0}),
    "bloom": ("Bloom", {"n_head": 4, "n_layer": LAYERS}),
    "codegen": ("CodeGen", {**_GPT2, "rotary_dim": 4}),
    "cohere": ("Cohere", {}),
    "cohere2": ("Cohere2", _MIXED),
    "deepseek_v3": ("DeepseekV3", {**_EXPERTS, **_LATENT, **_ROUTED}),
    "ernie4_5": ("Ernie4_5", _HEADS),
    "exaone4": ("Exaone4", _MIXED),
    "falcon": ("Falcon", {"new_decoder_architecture": False, "alibi": False}),
    "falcon, alibi": ("Falcon", {"new_decoder_architecture": False, "alibi": True}),
    "falcon_h1": ("FalconH1", {**_H1, "lm_head_multiplier": 0.3}),
    "gemma": ("Gemma", _HEADS),
    "gemma3_text": ("Gemma3Text", {**_GEMMA, **_MIXED}),
    "glm": ("Glm", _HEADS),
    "glm4": ("Glm4", _HEADS),
    "gpt_bigcode": ("GPTBigCode", _GPT2),
    "gpt_neo": ("GPTNeo", _NEO),
    "gpt_oss": ("GptOss", {**_EXPERTS, **_HEADS, **_MIXED}),
    "gptj": ("GPTJ", {**_GPT2, "rotary_dim": 4}),
    "granitemoe": ("GraniteMoe", {**_EXPERTS, "logits_scaling": 8.0}),
    "helium": ("Helium", _HEADS),
    "hunyuan_v1_dense": ("HunYuanDenseV1", _HEADS),
    "jamba": ("Jamba", {**_EXPERTS, **_JAMBA}),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"] * 2}),
    "llama4_text": ("Llama4Text", {**_EXPERTS, **_HEADS, "intermediate_size_mlp": 48, "attention_chunk_size": 16}),
    "mamba": ("Mamba", {"state_size": 8}),
    "mamba2": ("Mamba2", _SSM),
    "mpt": ("Mpt", _MPT),
    "nemotron": ("Nemotron", {}),
    "olmo": ("Olmo", {}),
    "olmo2": ("Olmo2", {}),
    "olmo3": ("Olmo3", _MIXED),
    "persimmon": ("Persimmon", {}),
    "phi3": ("Phi3", {}),
    "phi3, longrope": ("Phi3", {"original_max_position_embeddings": 16, "rope_parameters": _LONG}),
    "qwen2_moe": ("Qwen2Moe", {**_EXPERTS, "shared_expert_intermediate_size": 24}),
    "qwen3_moe": ("Qwen3Moe", {**_EXPERTS, **_HEADS}),
    "qwen3_next": ("Qwen3Next", {**_EXPERTS, **_HEADS, **_LINEAR}),
    "recurrent_gemma": ("RecurrentGemma", {"lru_width": WIDTH, "attention_window_size": 8, **_HEADS}),
    "rwkv": ("Rwkv", {"context_length": 128}),
    "seed_oss": ("SeedOss", _HEADS),
    "smollm3": ("SmolLM3", {}),
    "stablelm": ("StableLm", {}),
    "starcoder2": ("Starcoder2", _WINDOWS),
    "xglm": ("XGLM", _XGLM),
    "zamba2": ("Zamba2", {**_ZAMBA, **_BLOCKS, "num_key_value_heads": 4, "use_mamba_kernels": False}),
}
_BY_OTHER_NAMES = ("GPT2", "GPTJ", "CodeGen", "GPTBigCode", "Mpt", "XGLM")


def config_of(name, vocabulary=VOCABULARY, positions=128):
    """The configuration of a family's tiny model."""
    import transformers

    kind, settings = (LISTED | OTHERS)[name]
    common = {"vocab_size": VOCABULARY} if kind in _BY_OTHER_NAMES else _COMMON
    settings = {**common, **settings, "vocab_size": vocabulary}
    places = {"max_position_embeddings", "n_positions", "max_seq_len"} & settings.keys()
    return getattr(transformers, f"{kind}Config")(**{**settings, **dict.fromkeys(places, positions)})


def build(name, dtype=torch.float32, **settings):
    """A model of a family, in evaluation mode; ``settings`` are those of ``config_of``."""
    from transformers import AutoModelForCausalLM

    from zobench.models.attention import supported

    silence_libraries()
    config = config_of(name, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=supported(config, "sdpa"))
    return _spread(model.to(dtype).eval())


@torch.no_grad()
def _spread(model):
    """Scale a random model's matrices and its head, so that its log-probabilities differ by some nats."""
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
