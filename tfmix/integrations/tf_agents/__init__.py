"""TF-Agents' policy, agent, replay buffer and environments over those of tfmix."""
