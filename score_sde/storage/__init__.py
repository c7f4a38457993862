"""Checkpoints, manifests, whole files, run directories, pictures: what lies on the disk."""
