//! The database: schema, migrations, every query. The only crate that knows SQL.
//!
//! One file per table; what others call is `store::<table>::<query>(&store, …)`. Statuses move only along the
//! transitions of `model`: the UPDATE names the statuses it may come from and an update that found none is a conflict.
//! No business decisions are taken here beyond what keeps rows consistent with one another.

mod connect;
mod error;
mod migration;
mod schema;
mod value;

pub use connect::{DatabaseConfig, MariaDbTls, Store};
pub use error::StoreError;
pub use value::{Count, Stored, Timestamp};
