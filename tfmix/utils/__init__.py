"""What every part of tfmix may use and what knows nothing of learning: text, files, signals."""
