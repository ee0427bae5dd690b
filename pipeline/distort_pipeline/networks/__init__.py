"""Generator, discriminator and losses; Keras, no files. Section and equation numbers are those of the paper,
L.-H. Chen, C. G. Bampis, Z. Li, A. C. Bovik, IEEE Signal Processing Letters 27, 2020, doi 10.1109/LSP.2020.3040656.
"""
