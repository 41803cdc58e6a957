"""Folders as Hugging Face, optimum and onnxruntime-genai lay them out: a model with its configuration and tokenizer."""
