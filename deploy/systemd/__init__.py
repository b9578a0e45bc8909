"""ComfyUI and the orchestrator as services of systemd; standard library only."""
