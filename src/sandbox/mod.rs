//! A stand-in provider that misbehaves on request.
