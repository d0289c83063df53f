"""What leaves the house: predictor and packaged model."""
