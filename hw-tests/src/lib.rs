//! The whole path under faults.
