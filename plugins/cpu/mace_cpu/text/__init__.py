"""TfIdfVectorizer."""
