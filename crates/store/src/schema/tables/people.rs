//! People and the hub itself: users, tokens, sessions, the audit log, settings and leases.

use model::status::{Role, stored_texts};

use crate::schema::description::{Table, count, flag, id, json, name, one_of, text, time};

/// The tables of this area.
pub(in crate::schema) fn people() -> Vec<Table> {
    vec![users(), api_tokens(), sessions(), audit_log(), settings(), leases()]
}

fn users() -> Table {
    Table::new(
        "users",
        [
            id("id"),
            name("name").unique(),
            text("password_hash").optional(),
            name("oidc_subject").optional(),
            one_of("role", stored_texts::<Role>()),
            flag("is_active"),
        ],
    )
    .timestamped()
}

fn api_tokens() -> Table {
    Table::new(
        "api_tokens",
        [
            id("id"),
            id("user_id").owned_by("users", "id"),
            name("name"),
            name("token_hash").unique(),
            one_of("role", stored_texts::<Role>()),
            time("expires_at").optional(),
            time("last_used_at").optional(),
        ],
    )
    .timestamped()
}

fn sessions() -> Table {
    Table::new(
        "sessions",
        [
            name("token_hash"),
            id("user_id").owned_by("users", "id"),
            time("created_at"),
            time("expires_at"),
            name("source_ip"),
        ],
    )
}

fn audit_log() -> Table {
    Table::new(
        "audit_log",
        [
            id("id"),
            time("at"),
            name("actor"),
            name("action"),
            name("resource"),
            name("outcome"),
            name("source_ip"),
            json("detail"),
            name("previous_hash"),
            name("hash"),
        ],
    )
    .index(&["at"])
}

fn settings() -> Table {
    Table::new("settings", [name("key"), json("value")]).timestamped()
}

fn leases() -> Table {
    Table::new("leases", [name("name"), name("holder"), count("fence"), time("until")])
}
