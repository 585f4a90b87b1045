"""What learns: LightGBM, any scikit-learn estimator, or a bounded search among both."""
