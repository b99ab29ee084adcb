//! Containers: bytes ↔ frames, shared by protocols and recorders.
