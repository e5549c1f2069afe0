//! For tests: a hostile registry, token servers and stand-ins for the clouds' token services.
#![forbid(unsafe_code)]
