//! Backends of the ports: one module a port, one file a backend.
