//! The SPSC ring between two threads, and the doorbell that wakes the one that sleeps.
