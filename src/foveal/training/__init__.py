"""How models learn: objectives, the engine that all training shares, a trainer a kind of model."""
