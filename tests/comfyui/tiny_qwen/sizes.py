"""The sizes that the weights and the patched classes share."""

#: Four key-value heads of 128: by their 512 values ComfyUI recognises the 7B text encoder.
HEADS, HEAD_WIDTH = 4, 128
VOCABULARY = 152064

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
}
VISION = {"hidden_size": 32, "num_heads": 2, "num_layers": 1, "intermediate_size": 32}
#: The rope axes are even and add up to the width of a head.
DIT = {
    "num_attention_heads": 1,
    "attention_head_dim": 16,
    "axes_dims_rope": (4, 6, 6),
    "joint_attention_dim": TEXT["hidden_size"],
}
DIT_WIDTH = DIT["num_attention_heads"] * DIT["attention_head_dim"]
DIT_LAYERS = 2
DIT_CHANNELS = 64
#: Nearly all the time of a run is spent here: pictures have a megapixel, whatever the model.
VAE_WIDTH = 1
LATENT_CHANNELS = 16
LORA_RANK = 2
