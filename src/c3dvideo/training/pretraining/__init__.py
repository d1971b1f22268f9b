"""Pre-training on generated clips only: closed form, then gradient steps.

recipe          what is learned from how much
whitening       layers in closed form
batches, views  generated scenes, drawn ahead in other processes, seen by random cameras
objectives      parts, labels and identity
gradients       the steps
run             all of it as one resumable run
"""

from c3dvideo.training.pretraining.pretraining_run import pretrain
from c3dvideo.training.pretraining.pretraining_settings import NARROW_STAGES, PROFILE, PretrainRecipe, network_input

__all__ = ["NARROW_STAGES", "PROFILE", "PretrainRecipe", "network_input", "pretrain"]
