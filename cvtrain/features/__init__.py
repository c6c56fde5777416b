"""The on-disk cache of frozen activations: computed once for the same pixels and the same model."""
