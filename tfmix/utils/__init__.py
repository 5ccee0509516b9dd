"""Text, files, signals, memory: what every part of tfmix may use."""
