"""Statistical models: priors, noise, pooling, and one family per kind of fit with its sampling coordinates."""
