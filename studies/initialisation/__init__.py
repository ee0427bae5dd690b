"""Does a network that has seen many synthetic distortions learn a new one from fewer pairs?"""
