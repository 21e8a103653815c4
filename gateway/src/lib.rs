//! Headwater.
