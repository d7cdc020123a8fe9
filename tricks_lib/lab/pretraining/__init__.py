"""How the embedded checkpoints were made: recipes, corpus, objectives, training and model card."""
