"""Small models of distortions, each fitted to pairs in seconds; a generator is a composition of some of them."""
