"""Learning curves: formulas for reward against compute, without priors and without a sampler.

A learning curve is a record of `rlceiling.curves.curve.Curve`. All forms stand in `rlceiling.curves.registry.CURVES`:

sigmoid
    ``R(C) = R0 + (A - R0) / (1 + (C_mid / C)^B)``. The reward rises from a start ``R0`` to a ceiling ``A``
    (arXiv 2510.13786).

burr
    The sigmoid with a parameter for its tail, ``R(C) = R0 + (A - R0) (1 - (1 + (2^tau - 1) (C / C_mid)^b)^(-1/tau))``;
    ``tau = 1`` is the sigmoid (Burr 1942, doi 10.1214/aoms/1177731607).

power law
    ``R(C) = 1 - K C^-E``. The test loss ``1 - R`` is a straight line in logarithms and the reward approaches 1
    (arXiv 2509.25300).

log-linear
    ``R(C) = R0 + s ln(1 + C / C0)``. The reward grows without a ceiling, far above ``C0`` by ``s`` for each unit of
    ``ln C``.

To add a form, write its record, list it in the registry, add a paragraph here and a row in
``tests/test_curve_registry.py``.
"""

from rlceiling.curves.sigmoid import sigmoid_compute, sigmoid_curve, sigmoid_share

__all__ = ["sigmoid_compute", "sigmoid_curve", "sigmoid_share"]
