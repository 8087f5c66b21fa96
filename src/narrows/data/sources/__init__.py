"""Sources: one file for each kind of data, which reads it and knows nothing of batches."""
