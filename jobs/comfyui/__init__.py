"""ComfyUI, from inside its process."""
