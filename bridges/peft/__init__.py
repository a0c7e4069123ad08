"""LoRA adapters, and critics beside them, to and from PEFT's folders."""
