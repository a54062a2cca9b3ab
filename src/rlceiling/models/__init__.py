"""Statistical models: priors, noise and sampling coordinates; one file per model family."""

from rlceiling.models.recipe_model import SigmoidPriors, sigmoid_model

__all__ = ["SigmoidPriors", "sigmoid_model"]
