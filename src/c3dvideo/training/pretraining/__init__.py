"""Pre-training on generated clips only: closed form, then gradient steps.

pretraining_settings    what is learned from how much
pretraining_input       what the network expects of its input
whitening               layers in closed form
batches, views          generated scenes, drawn ahead in other processes, seen by random cameras
objectives              losses: parts, motion, labels and identity
gradients               the steps
pretraining_run         all of it as one resumable run: `pretrain`
"""
