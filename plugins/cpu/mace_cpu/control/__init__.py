"""If, where both branches can be computed here."""
