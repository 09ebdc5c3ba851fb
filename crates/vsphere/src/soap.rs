//! SOAP 1.1 as vim25 speaks it: a bounded, tolerant reader and a writer that escapes everything.
//!
//! Text in, values out: no HTTP, no session, and no knowledge of any method's parameters.

mod element;
mod read;
mod write;

pub use element::{Element, Namespace};
pub(crate) use read::{Answer, answer};
pub use read::{MAX_DEPTH, MAX_DOCUMENT_BYTES, MAX_ELEMENTS, SoapError, parse};
pub(crate) use write::Request;

#[cfg(test)]
mod tests;
