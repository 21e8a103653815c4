//! The gateway's rooms together, over a real journal and catalog.
#![allow(missing_docs, reason = "tests have no readers of documentation")]

mod query;
