"""What is minimised: denoising and other score matching, variational bounds."""
