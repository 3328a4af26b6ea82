"""The bundled stack: running it from native binaries, and asking its stores what arrived."""
