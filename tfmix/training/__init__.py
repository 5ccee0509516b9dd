"""The compiled loop: collecting, the replay, updates, and what decides all that is random."""
