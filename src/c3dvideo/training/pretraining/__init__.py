"""Pre-train on generated clips only: closed form, then gradient steps.

pretraining_settings    all settings: how many clips, steps and units
pretraining_input       profile and mean of the network's input
whitening               layers in closed form
batches, views          generated scenes, rendered ahead in other processes; random views of them
objectives              losses: parts, motion, labels and identity
gradients               the gradient steps
pretraining_run         all steps as one resumable run: `pretrain`
"""
