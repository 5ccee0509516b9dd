"""Networks: Keras layers that own weights, and the functions that use them. No losses."""
