"""Statistical models: priors, noise and sampling coordinates; one file a model family."""

from rlceiling.models.sigmoid import SigmoidPriors, sigmoid_model

__all__ = ["SigmoidPriors", "sigmoid_model"]
