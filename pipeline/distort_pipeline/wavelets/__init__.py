"""The wavelet of JPEG 2000 and what it tells of an image, without a backend: workers that cut tiles need none."""
