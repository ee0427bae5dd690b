"""The wavelet of JPEG 2000 and the significance of an image's coefficients; neither needs a backend."""
