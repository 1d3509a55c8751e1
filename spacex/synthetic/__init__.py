"""An embedded, procedural Fennoscandia: landscape, scene archive, data set, and the weights trained on it."""
