"""Model libraries -> signatures/: entries, programs and twins."""
