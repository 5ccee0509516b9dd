"""TF-Agents: its policy, agent and environments over those of tfmix."""
