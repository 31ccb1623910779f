"""What lenses and motion do to light: scattering, point spread functions, defocus by layers, exposures."""
