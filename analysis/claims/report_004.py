"""The claims of report 004: losses, activations and a second hidden layer at a very small learning rate."""

from analysis.claims.model import Claim
from analysis.claims.report_004_one_layer import ONE_LAYER
from analysis.claims.report_004_two_layers import TWO_LAYERS

CLAIMS: tuple[Claim, ...] = (*ONE_LAYER, *TWO_LAYERS)
