//! The audit trail: every fact of every stream's life, numbered, written by a thread of its own.
