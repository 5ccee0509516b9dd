"""Settings: what they are (schema), how they are given (parsing) and what counts (resolve)."""
