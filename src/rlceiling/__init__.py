"""rlceiling: Bayesian ceilings for RL post-training."""
