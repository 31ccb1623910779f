"""Which sample is trained on when, and where its bytes lie."""
