"""Helps every part of tfmix with text, files, memory and signals; knows nothing of learning."""
