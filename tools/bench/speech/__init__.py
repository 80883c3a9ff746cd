"""Human speech with pauses, assembled from Debian's packages: turns whose end, and whose pauses before it, are known."""
