"""The microscope: its PSF, blur, noise and motion."""
