"""How good are the pictures? Features are taken once; every metric is a pure function of features."""
