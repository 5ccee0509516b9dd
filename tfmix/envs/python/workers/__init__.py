"""Processes that step environments, and the memory that they share with the trainer."""
