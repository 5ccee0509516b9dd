"""What a run reports: metrics.csv, TensorBoard, progress in the terminal."""
