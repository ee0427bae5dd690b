"""Classifier two-sample tests (C2ST): small classifiers try to discriminate generated from true tiles."""
