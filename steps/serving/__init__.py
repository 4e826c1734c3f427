"""A trained model and what it takes to ask it about prices, wherever it runs."""
