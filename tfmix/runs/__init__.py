"""Runs as folders: what is written there, read, resumed and exported."""
