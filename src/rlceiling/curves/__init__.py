"""Curves of reward against compute: pure maths, no priors and no sampler."""

from rlceiling.curves.sigmoid import sigmoid_compute, sigmoid_curve, sigmoid_share

__all__ = ["sigmoid_compute", "sigmoid_curve", "sigmoid_share"]
