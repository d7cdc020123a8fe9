"""How the embedded checkpoints were made: recipes, corpus, objectives, training, model card, and what
the pretraining is worth."""
