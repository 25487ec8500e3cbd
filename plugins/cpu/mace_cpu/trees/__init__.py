"""TreeEnsemble and TreeEnsembleRegressor."""
