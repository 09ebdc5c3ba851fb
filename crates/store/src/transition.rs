//! Moving a row's status: the UPDATE names where it may come from, so that no read can be overtaken.

use std::fmt::Display;

use model::status::Transitions;

use crate::error::StoreError;
use crate::value::Stored;

/// The statuses `to` may follow (itself included: a repeated step writes the same again).
pub(crate) fn may_precede<T: Transitions>(to: T) -> Vec<Stored<T>> {
    T::may_come_from(to).into_iter().map(Stored).collect()
}

/// Why an update that names [`may_precede`] found no row: there is none, or its status forbids it.
pub(crate) fn refused<T: Display>(what: &'static str, id: &str, from: Option<Stored<T>>, to: &T) -> StoreError {
    match from {
        None => StoreError::not_found(what, id),
        Some(from) => StoreError::Transition { what, id: id.to_owned(), from: from.0.to_string(), to: to.to_string() },
    }
}
