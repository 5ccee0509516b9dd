"""Trains in memory: collectors, the replay, the learner, the training loop and its seeds."""
